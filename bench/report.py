"""Showing what was measured."""

from __future__ import annotations

from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench.model import Figure, Result, Row


def table(result: Result) -> Table:
    """A result for the terminal."""
    where = "pinned to one CPU" if result.pinned else "not pinned"
    title = f"{result.benchmark.title} ({where})"
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    shown.add_column("", min_width=8)
    for figure in result.benchmark.figures:
        shown.add_column(figure.title, justify="right", min_width=5)
        if figure.spread:
            shown.add_column("min-max", justify="right", no_wrap=True)
        if figure.compared:
            shown.add_column("ratio", justify="right", min_width=5)
    for row in result.rows:
        if row.contender.missing:
            shown.add_row(f"{row.contender.name}: {row.contender.missing}")
        elif row.samples:
            shown.add_row(row.contender.name, *cells(result, row))
    return shown


def cells(result: Result, row: Row) -> list[str]:
    """The texts of a row, without its name."""
    texts: list[str] = []
    for figure in result.benchmark.figures:
        values = row.values(figure)
        texts.append(_number(median(values), figure))
        if figure.spread:
            texts.append(f"{_number(min(values), figure)}-{_number(max(values), figure)}")
        if figure.compared:
            ratios = result.ratios(row, figure)
            texts.append(f"{median(ratios):.2f}" if ratios else "")
    return texts


def heading(facts: dict[str, Any], repeats: int) -> str:
    """What it was measured on and how, in a line or two."""
    versions = ", ".join(
        f"{name} {version or 'missing'}" for name, version in facts["versions"].items()
    )
    return (
        f"{facts['cpu']}, {facts['cpus']} CPUs, {facts['kernel']}, {facts['python']}; {versions}\n"
        f"load average {facts['load']}; {repeats} repeats, medians of them; "
        "ratio: how many times as slow as the first row, median over the repeats"
    )


def _number(value: float, figure: Figure) -> str:
    return f"{value:,.{figure.digits}f}"
