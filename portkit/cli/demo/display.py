"""What the main job shows: a progress bar where there is a terminal, lines, a summary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from portkit import COMMON_MODES, RunLoop, Timer
from portkit.cli.demo.job import HashJob


class Display:
    """The job's output: results on standard output, everything else on standard error."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def say(self, line: str) -> None:
        """Print a line above the progress bar."""
        self._err.print(line)

    @contextmanager
    def progress(self, job: HashJob) -> Iterator[None]:
        """Show how far the job is; the bar is moved by a timer on this thread's run loop."""
        with self._bar() as bar:
            task = bar.add_task("hashing", total=job.total, size="")

            def refresh(_timer: Timer) -> None:
                bar.update(task, completed=job.done, size=decimal(job.hashed))
                bar.refresh()

            timer = Timer(0.1, refresh, repeats=True, tolerance=0.05)
            RunLoop.current().add_timer(timer, COMMON_MODES)
            try:
                yield
            finally:
                timer.invalidate()
                refresh(timer)

    @contextmanager
    def steps(self, what: str, total: int) -> Iterator[Iterator[int]]:
        """A bar for work in this thread: take one number before each step."""
        with self._bar() as bar:
            task = bar.add_task(what, total=total, size="")

            def count() -> Iterator[int]:
                for step in range(total):
                    yield step
                    bar.update(task, completed=step + 1)
                    if step % 50 == 0:
                        bar.refresh()
                bar.refresh()

            yield count()

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[size]}"),
            TimeRemainingColumn(),
            console=self._err,
            auto_refresh=False,
            disable=not self._err.is_terminal,
        )

    def summary(self, job: HashJob, seconds: float, over: str, tree: str) -> None:
        """Print what was done, by whom, and one digest of it all."""
        counts = ", ".join([f"{name} {count}" for name, count in sorted(job.counts.items())])
        rows = {
            "files": f"{len(job.digests)} of {job.total}",
            "bytes": f"{job.hashed} ({decimal(job.hashed)})",
            "seconds": f"{seconds:.2f} ({decimal(int(job.hashed / seconds))}/s)",
            "workers": f"over {over}: {counts or 'none had anything to do'}",
            "sha-256": tree,
        }
        for name, value in rows.items():
            self.result(f"{name:<8} {value}")  # no table: it would cut them to the terminal's width

    def result(self, line: str) -> None:
        """Print a line of the result."""
        self._out.print(line)
