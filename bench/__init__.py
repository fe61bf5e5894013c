"""What portkit costs, beside what else carries messages between threads: ``python -m bench``."""
