"""A cable's direction, by a clock of the test's own."""

from __future__ import annotations

from random import Random

import pytest

from tests.hosts.line import LIMIT, Impairment, Line


def line(**impairment: float) -> Line:
    made = Line(Random(1))
    made.impairment = Impairment(**impairment)
    return made


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_a_clean_line_carries_at_once_and_in_order() -> None:
    clean = line()
    for frame in numbered(100):
        clean.put(frame, 5.0)
    assert clean.next_arrival() == 5.0
    assert clean.arrived(5.0) == numbered(100)
    assert clean.next_arrival() is None


def test_a_delay_is_kept_to_the_moment() -> None:
    slow = line(delay=0.5)
    slow.put(b"a", 1.0)
    slow.put(b"b", 1.25)
    assert slow.arrived(1.49) == []
    assert slow.next_arrival() == 1.5
    assert slow.arrived(1.5) == [b"a"]
    assert slow.arrived(9.0) == [b"b"]


def test_jitter_lets_frames_overtake_and_none_goes_back_in_time() -> None:
    unsteady = line(delay=0.01, jitter=0.05)
    for number, frame in enumerate(numbered(500)):
        unsteady.put(frame, number / 1000)
    assert not unsteady.arrived(-0.001)
    arrived = unsteady.arrived(9.0)
    assert arrived != numbered(500)
    assert sorted(arrived) == sorted(numbered(500))


def test_reordered_frames_overtake_those_that_are_delayed() -> None:
    mixing = line(delay=1.0, reorder=0.1)
    for frame in numbered(1000):
        mixing.put(frame, 0.0)
    early = mixing.arrived(0.5)
    assert 50 < len(early) < 200
    assert len(early) + len(mixing.arrived(1.0)) == 1000


def test_about_the_share_asked_for_is_lost() -> None:
    lossy = line(loss=0.1)
    for frame in numbered(2000):
        lossy.put(frame, 0.0)
    assert 100 < lossy.lost < 300
    assert len(lossy.arrived(0.0)) + lossy.lost == 2000


def test_a_rate_makes_frames_wait_for_each_other() -> None:
    narrow = line(rate=1000.0)
    for _ in range(4):
        narrow.put(bytes(500), 0.0)
    assert len(narrow.arrived(0.5)) == 1
    assert len(narrow.arrived(1.99)) == 2
    narrow.put(bytes(500), 10.0)  # idle time is not saved up
    assert [len(narrow.arrived(at)) for at in (2.0, 10.49, 10.5)] == [1, 0, 1]


def test_a_full_line_loses_what_comes_on_top() -> None:
    full = line(delay=1.0)
    for frame in numbered(LIMIT + 7):
        full.put(frame, 0.0)
    assert full.lost == 7
    assert full.arrived(1.0) == numbered(LIMIT)


def test_a_cut_loses_what_is_under_way_and_what_is_sent() -> None:
    cut = line(delay=1.0)
    cut.put(b"under way", 0.0)
    cut.cut()
    cut.put(b"sent", 0.1)
    assert cut.next_arrival() is None
    assert cut.lost == 2
    cut.mend()
    cut.put(b"afterwards", 2.0)
    assert cut.arrived(3.0) == [b"afterwards"]


@pytest.mark.parametrize(
    ("impairment", "words"),
    [
        (Impairment(), "limit 4000"),
        (
            Impairment(delay=0.02, jitter=0.005, loss=0.01, reorder=0.1, rate=1e6),
            "limit 4000 delay 20000us 5000us loss 1% reorder 10% rate 8000000bit",
        ),
        (Impairment(reorder=0.5), "limit 4000"),
        (Impairment(loss=1.0), "limit 4000 loss 100%"),
    ],
)
def test_netem_is_told_the_same(impairment: Impairment, words: str) -> None:
    assert impairment.netem() == words.split()
