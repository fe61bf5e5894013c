"""Working for a group that did not start this process."""
