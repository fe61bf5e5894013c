"""What a benchmark is made of: contenders that are sampled, and figures that are read off them.

To add a benchmark, write functions that take a size and return a :data:`Sample`, and list them as
contenders of a :class:`Benchmark` in ``suite.py``. The rest (interleaving, statistics, tables,
JSON) follows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeAlias

Sample: TypeAlias = "dict[str, float]"
"""What one sampling gave: a value for each figure of the benchmark."""


@dataclass(frozen=True)
class Figure:
    """A column of the result.

    Attributes:
        key: its key in a sample.
        title: its heading, with the unit.
        digits: how many to print after the point.
        compared: whether to print how many times as slow as the first contender each one is.
        rate: higher is better, as in messages per second; otherwise lower is.
        spread: whether to print the smallest and the largest of the samples.
    """

    key: str
    title: str
    digits: int = 1
    compared: bool = False
    rate: bool = False
    spread: bool = False


@dataclass(frozen=True)
class Contender:
    """One row: opened, warmed up, measured and closed by each call of ``sample``.

    Attributes:
        name: its name.
        sample: called with how much to do; returns what it measured.
        missing: why it cannot be measured here, or "".
    """

    name: str
    sample: Callable[[int], Sample]
    missing: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A table.

    Attributes:
        name: for ``--only``.
        title: what is measured.
        figures: its columns.
        contenders: its rows; the first is the one the others are compared with.
        size: how much one sampling does, in a full run.
        quick_size: how much in a smoke run.
        most_repeats: how often at most each contender has its turn: for what takes long.
        pinnings: whether to measure free to use every CPU (False), pinned to one (True), or both.
    """

    name: str
    title: str
    figures: tuple[Figure, ...]
    contenders: tuple[Contender, ...]
    size: int
    quick_size: int
    pinnings: tuple[bool, ...] = (False, True)
    most_repeats: int = sys.maxsize


@dataclass
class Row:
    """What came of one contender."""

    contender: Contender
    samples: list[Sample] = field(default_factory=list)

    def values(self, figure: Figure) -> list[float]:
        """The figure in every repeat."""
        return [sample[figure.key] for sample in self.samples]


@dataclass
class Result:
    """What came of one benchmark at one pinning."""

    benchmark: Benchmark
    pinned: bool
    size: int
    rows: list[Row]

    def ratios(self, row: Row, figure: Figure) -> list[float]:
        """How many times as slow as the first row, repeat by repeat; empty where unknown."""
        pairs = zip(row.values(figure), self.rows[0].values(figure), strict=False)
        if figure.rate:
            return [first / value for value, first in pairs if value]
        return [value / first for value, first in pairs if first]

    def as_json(self) -> dict[str, Any]:
        """Everything measured, and the medians."""
        return {
            "name": self.benchmark.name,
            "title": self.benchmark.title,
            "pinned": self.pinned,
            "size": self.size,
            "rows": [self._row_as_json(row) for row in self.rows],
        }

    def _row_as_json(self, row: Row) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for figure in self.benchmark.figures if row.samples else ():
            values = row.values(figure)
            entry = figures[figure.key] = {
                "title": figure.title,
                "digits": figure.digits,
                "median": median(values),
                "values": values,
            }
            ratios = self.ratios(row, figure) if figure.compared else []
            if ratios:
                entry["times_as_slow"] = {"median": median(ratios), "values": ratios}
        return {
            "contender": row.contender.name,
            "missing": row.contender.missing,
            "figures": figures,
        }
