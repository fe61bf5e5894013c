"""Timers in modes: where they fire, what becomes of dates that were missed.

After the guide's modes (default, event tracking, common) and R45-R56. A timer fires only while its
loop runs a mode that holds it. One that repeats keeps its phase: dates missed because of a long
callback, or of another mode, are made up for by one call, and the next date is on the old grid.

The clock is a manual one that jumps to the next date, so that this program neither waits nor
depends on the machine's speed. Without the ``with`` in ``main`` it behaves the same in real time.
"""

from __future__ import annotations

from collections.abc import Callable

from portkit import COMMON_MODES, DEFAULT_MODE, RunLoop, Timer, clock

TRACKING = "tracking"

manual = clock.ManualClock(start=0.0, jump=True)


def tell(name: str) -> Callable[[Timer], None]:
    return lambda _: print(f"  {clock.now():.2f}  {name}")


def modes(loop: RunLoop) -> None:
    """A timer in the default mode, and one in all common modes."""
    loop.add_common_mode(TRACKING)
    timers = [
        Timer(0.5, tell("in the default mode"), repeats=True),
        Timer(0.5, tell("in the common modes"), repeats=True),
    ]
    loop.add_timer(timers[0], DEFAULT_MODE)
    loop.add_timer(timers[1], COMMON_MODES)
    for mode, seconds in ((DEFAULT_MODE, 0.75), (TRACKING, 1.5), (DEFAULT_MODE, 0.5)):
        print(f"{clock.now():.2f}: running the {mode} mode for {seconds} s")
        loop.run_in_mode(mode, seconds)
    for timer in timers:
        timer.invalidate()


def phase(loop: RunLoop) -> None:
    """A timer every second whose second call takes 2.25 seconds."""
    print(f"{clock.now():.2f}: a timer every second, and one long call")
    calls: list[float] = []

    def call(timer: Timer) -> None:
        calls.append(clock.now())
        print(f"  {clock.now():.2f}  call {len(calls)}")
        if len(calls) == 2:
            busy_for(2.25)
            print(f"  {clock.now():.2f}  the long call ends")
        if len(calls) == 4:
            timer.invalidate()

    Timer.scheduled(1.0, call, repeats=True)
    result = loop.run(timeout=60.0)
    print(f"{clock.now():.2f}: {result.name}: the mode is empty")


def busy_for(seconds: float) -> None:
    """Stands for a long computation."""
    manual.advance(seconds)


def main() -> None:
    with clock.use(manual):
        modes(RunLoop.current())
        phase(RunLoop.current())


if __name__ == "__main__":
    main()
