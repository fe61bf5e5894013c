"""Names: what a name may be, and the servers that find ports by name."""

from portkit.names.name import MAX_NAME_BYTES, check_name
from portkit.names.server import NameServer

__all__ = ["MAX_NAME_BYTES", "NameServer", "check_name"]
