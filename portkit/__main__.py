"""``python -m portkit``."""

from portkit.cli import main

if __name__ == "__main__":
    main()
