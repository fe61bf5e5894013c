"""A private certificate authority, and pre-shared keys: who may talk to whom over TCP."""
