"""What messages a program takes: a JSON Schema and a page of its router."""
