"""Typed requests, and calls of methods of another process's objects, beside other libraries."""
