"""Ways to talk between processes: a process spawned to serve, and clients in this one."""
