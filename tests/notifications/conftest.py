"""Other processes, as the tests of transports have them: each test runs over every transport."""

from tests.transports.conftest import child, loop, nursery, start, third
from tests.transports.processes.conftest import certificates, pki, way

__all__ = ["certificates", "child", "loop", "nursery", "pki", "start", "third", "way"]
