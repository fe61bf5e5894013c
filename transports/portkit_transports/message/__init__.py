"""Ports between the processes of one host: Unix stream sockets, found by name."""
