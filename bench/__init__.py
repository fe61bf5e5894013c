"""What portkit costs, beside what else carries messages: ``python -m bench``."""
