"""A process with named ports is forked: the names stay the parent's."""

from __future__ import annotations

import pytest

from portkit import MessagePort, NameInUseError
from tests.ports.helpers import in_child
from tests.transports.processes import roles
from tests.transports.processes.child import Child

pytestmark = [
    pytest.mark.usefixtures("folder"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def test_the_parents_name_is_not_the_childs(child: Child) -> None:
    with MessagePort("us") as port:
        assert in_child(lambda: port.set_name("we")).startswith("InvalidPortError")
        assert in_child(lambda: MessagePort("us")).startswith("NameInUseError")
        assert in_child(port.invalidate) == "None"
        with pytest.raises(NameInUseError):
            child.call(roles.open_port, "us")
