"""What holds for every test: nothing is left behind, and no error goes by unseen."""

from __future__ import annotations

import functools
import gc
import logging
import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import settings

from portkit import RunLoop
from tests.support import Leftovers, Reports, run_on_thread

settings.register_profile("portkit", deadline=None)  # a busy machine fails no test
settings.load_profile("portkit")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "own_thread: run the test on a new thread, so with a run loop of its own"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two for each processor: half the tests wait for something, most of the time."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Honour the mark ``own_thread``. The main thread's loop keeps its modes for ever; one test
    would find what another left there.
    """
    if pyfuncitem.get_closest_marker("own_thread") is not None:
        test = pyfuncitem.obj

        @functools.wraps(test)
        def on_thread(**arguments: Any) -> None:
            run_on_thread(functools.partial(test, **arguments))

        pyfuncitem.obj = on_thread
    return (yield)


@pytest.fixture(scope="session", autouse=True)
def main_loop() -> RunLoop:
    """The main thread's loop. Its pipe, once made, stays: it must be there before any test."""
    loop = RunLoop.main()
    gc.collect()
    gc.freeze()  # so that the collection after each test looks only at what that test made
    return loop


@pytest.fixture(scope="module", autouse=True)
def imported(main_loop: RunLoop) -> None:
    """What a file of tests has imported is as little to be looked at after each of them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leftovers(main_loop: RunLoop) -> Iterator[None]:
    """Fail a test after which a descriptor or a thread is left.

    A descriptor source on the main loop makes a poller that stays with its mode: use such
    sources under ``own_thread``, or on a ``LoopThread``.
    """
    before = Leftovers()
    yield
    left = before.settle()
    assert not left, f"left behind: {left}"


@pytest.fixture(autouse=True)
def reports(no_leftovers: None) -> Iterator[Reports]:
    """Fail a test in which portkit logged an error, unless the test takes it from here."""
    handler = Reports()
    logger = logging.getLogger("portkit")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    unexpected = [record.getMessage() for record in handler.records]
    handler.records.clear()
    assert not unexpected, f"logged, but not taken from the fixture 'reports': {unexpected}"
