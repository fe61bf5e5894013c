"""``python -m bench.markdown FILE …``: the medians of several runs, as documentation tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def tables(runs: list[dict[str, Any]]) -> Iterator[str]:
    """The lines. In each cell stand the medians of the runs, in the order of the runs."""
    for number, run in enumerate(runs, 1):
        loads = f"{run['machine']['load']} before, {run['machine']['load_after']} after"
        yield f"Run {number}: {run['repeats']} repeats; load average {loads}."
    yield ""
    for results in zip(*(run["results"] for run in runs), strict=True):
        where = "pinned to one CPU" if results[0]["pinned"] else "not pinned"
        yield f"{results[0]['title']} ({where}):\n"
        yield from _table([result["rows"] for result in results])
        yield ""


def _table(runs: list[list[dict[str, Any]]]) -> Iterator[str]:
    figures: dict[str, Any] = next((row["figures"] for row in runs[0] if row["figures"]), {})
    headings = []
    for figure in figures.values():
        headings.append(figure["title"])
        if "times_as_slow" in figure:
            headings.append("ratio")
    yield "| | " + " | ".join(headings) + " |"
    yield "|---|" + "---:|" * len(headings)
    for rows in zip(*runs, strict=True):
        yield f"| {rows[0]['contender']} | " + " | ".join(_cells(list(rows), list(figures))) + " |"


def _cells(rows: list[dict[str, Any]], keys: list[str]) -> Iterator[str]:
    if rows[0]["missing"]:
        yield rows[0]["missing"]
        return
    for key in keys:
        figures = [row["figures"][key] for row in rows]
        yield " · ".join(f"{figure['median']:,.{figure['digits']}f}" for figure in figures)
        if "times_as_slow" in figures[0]:
            yield " · ".join(f"{figure['times_as_slow']['median']:.2f}" for figure in figures)


if __name__ == "__main__":
    print("\n".join(tables([json.loads(Path(name).read_text()) for name in sys.argv[1:]])))
