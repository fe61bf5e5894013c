"""Ports over TCP, with TLS or pre-shared keys."""
