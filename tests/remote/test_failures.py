"""Exceptions: what comes of them at the caller, and that both sides go on."""

from __future__ import annotations

import math
import pickle
import traceback

import pytest

from portkit import MachPort, RemoteError, ReplyDroppedError, RunLoop
from portkit.remote import Connection, failure
from portkit.remote.method import full_name
from tests.remote import roles
from tests.remote.desk import AwkwardError, Desk, DeskServer, OutOfStockError
from tests.remote.sides import InProcess, OnThread, There, connected
from tests.support import PATIENCE, LoopThread, Reports

pytestmark = pytest.mark.own_thread


@pytest.mark.parametrize(
    ("how", "name", "text"),
    [
        ("plain", "builtins.ValueError", "on purpose"),
        ("own", "tests.remote.desk.OutOfStockError", "('nails', 3)"),
        ("mute", "tests.remote.desk.MuteError", "(its text cannot be made)"),
        ("awkward", "tests.remote.desk.AwkwardError", "7: odd"),
        ("group", "builtins.ExceptionGroup", "several (2 sub-exceptions)"),
        ("surrogate", "builtins.ValueError", "\\ud800"),
        ("large", "tests.remote.desk.OutOfStockError", "x" * 16_384),
    ],
)
def test_any(there: There, how: str, name: str, text: str) -> None:
    with connected() as (_, desk):
        with pytest.raises(RemoteError) as caught:
            desk.fail(how)
        error = caught.value
        assert error.type == name
        assert error.message == text
        assert "in fail\n" in error.traceback
        assert "raise FAILURES[how]" in "".join(traceback.format_exception(error))
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        assert desk.add(1) == 2


class TestDeclared:
    def test_as_itself(self, there: There) -> None:
        with connected() as (_, desk):
            with pytest.raises(OutOfStockError) as caught:
                desk.fail_declared("own")
            assert caught.value.args == ("nails", 3)
            cause = caught.value.__cause__
            assert isinstance(cause, RemoteError)
            assert "in fail_declared\n" in cause.traceback

    def test_plain_arguments(self, there: There) -> None:
        with connected() as (_, desk), pytest.raises(OutOfStockError) as caught:
            desk.fail_declared("infinite")
        assert caught.value.args == (math.inf, None, [1, {"a": True}])

    def test_a_derived_one_as_what_is_declared(self, there: There) -> None:
        with connected() as (_, desk), pytest.raises(LookupError) as caught:
            desk.fail_declared("derived")
        assert type(caught.value) is LookupError
        assert str(caught.value.__cause__) == "builtins.KeyError: 'k'"

    @pytest.mark.parametrize("how", ["unplain", "awkward", "plain", "large"])
    def test_what_cannot_be_made_anew_is_a_remote_error(self, there: There, how: str) -> None:
        """Arguments that are not plain, or large; a constructor that takes others; undeclared."""
        with connected() as (_, desk):
            with pytest.raises(RemoteError):
                desk.fail_declared(how)
            assert desk.add(1) == 2

    def test_which_class_is_the_callers_own_business(self) -> None:
        """The other side names one of those that the interface has, and nothing else."""
        data = failure.of(OutOfStockError(1), {"os.system": OutOfStockError}, with_traceback=False)
        assert type(failure.to_raise(data, {"os.system": OutOfStockError})) is RemoteError
        forged = b'{"type": "a", "message": "", "declared": "builtins.SystemExit", "args": [1]}'
        known = {full_name(AwkwardError): AwkwardError}
        assert type(failure.to_raise(forged, known)) is RemoteError


def test_without_tracebacks(there: There) -> None:
    there.call(roles.serve, "discreet", {"tracebacks": False})
    with connected("discreet") as (_, desk), pytest.raises(RemoteError) as caught:
        desk.fail("plain")
    assert not caught.value.traceback
    assert not hasattr(caught.value, "__notes__")


def test_without_tracebacks_of_a_third_side_either(there: There) -> None:
    class Failing:
        def heard(self, number: int) -> int:
            raise OutOfStockError("here")

    there.call(roles.serve, "discreet", {"tracebacks": False})
    with connected("discreet") as (_, desk), pytest.raises(RemoteError) as caught:
        desk.call_back(Failing(), 1)
    assert caught.value.type == "tests.remote.desk.OutOfStockError"
    assert not caught.value.traceback


def test_of_a_third_side_it_stays_what_it_was(there: There) -> None:
    class Failing:
        def heard(self, number: int) -> int:
            raise OutOfStockError("here")

    with connected() as (_, desk):
        with pytest.raises(RemoteError) as caught:
            desk.call_back(Failing(), 1)
        assert caught.value.type == "tests.remote.desk.OutOfStockError"
        assert "in heard\n" in caught.value.traceback


def test_a_result_that_is_none_of_the_type(there: There, reports: Reports) -> None:
    """Who erred is told, and so is who waits."""
    with connected() as (_, desk):
        with pytest.raises(RemoteError, match="wrong_result returned something else") as caught:
            desk.wrong_result()
        assert caught.value.type == "builtins.TypeError"
        assert desk.add(1) == 2
    if not isinstance(there, InProcess):
        (error,) = reports.take()
        assert "valid integer" in str(error)


def test_a_result_that_no_link_takes(there: There) -> None:
    with connected() as (_, desk):
        names = [str(number) for number in range(5000)]
        if isinstance(there, OnThread):
            assert len(desk.items(names)) == 5000
        else:
            with pytest.raises(RemoteError, match="components") as caught:
                desk.items(names)
            assert caught.value.type == "portkit.errors.MessageTooLargeError"
        assert desk.add(1) == 2


@pytest.mark.parametrize("how", ["exit", "interrupt"])
def test_what_ends_a_program_leaves_the_run(how: str) -> None:
    """As from any callback; who waits is told at once."""
    with LoopThread() as thread, MachPort() as port:
        ended: list[BaseException] = []

        def serve() -> None:
            with Connection.serve(port, DeskServer(), Desk):
                started.append(True)
                try:
                    RunLoop.current().run_in_mode("default", PATIENCE)
                except BaseException as error:
                    ended.append(error)

        started: list[bool] = []
        thread.loop.perform(serve)
        with Connection.to(port, timeout=PATIENCE) as connection:
            while not started:
                pass
            desk = connection.root(Desk)
            with pytest.raises(ReplyDroppedError):
                desk.fail(how)
            thread.call(bool)
        assert isinstance(ended[0], SystemExit | KeyboardInterrupt)
