"""``python -m bench``: measure, show tables, write JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench import machine, report, suite
from bench.model import Benchmark, Result

_NAMES = ", ".join(benchmark.name for benchmark in suite.BENCHMARKS)


def main(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Measure only this, or only those whose names begin with it and a hyphen; may be "
            f"repeated. One of: {_NAMES}.",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often each contender has its turn.")] = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="A smoke run: one repeat, tiny sizes, poor figures.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all values there.")
    ] = None,
) -> None:
    """Measure what portkit costs, beside what else carries messages between threads and processes.

    All contenders are measured in one run, one at a time and in turn, each of them several times;
    pinned to one CPU and not. Threads are this process's own; other processes are spawned for each
    sampling. A full run takes several minutes: leave the machine alone meanwhile. Ctrl-C ends it
    after showing the benchmarks that are complete.
    """
    console = Console()
    repeats = 1 if quick else repeats
    facts = machine.facts()
    console.print(report.heading(facts, repeats), highlight=False)
    results: list[Result] = []
    try:
        with console.status("") as status:
            for benchmark in _chosen(only):
                size = benchmark.quick_size if quick else benchmark.size
                for result in suite.run(
                    benchmark, repeats=repeats, size=size, on_progress=status.update
                ):
                    results.append(result)
                    console.print(report.table(result))
    except KeyboardInterrupt:
        console.print("Interrupted; what is shown above is complete.")
        raise typer.Exit(130) from None
    finally:
        facts["load_after"] = machine.load()
        console.print(f"load average afterwards {facts['load_after']}", highlight=False)
        if json_file is not None:
            _write(json_file, facts, repeats, results)


def _chosen(only: list[str] | None) -> list[Benchmark]:
    if not only:
        return list(suite.BENCHMARKS)
    chosen = {name: [b for b in suite.BENCHMARKS if _is_meant(b, name)] for name in only}
    unknown = sorted(name for name, found in chosen.items() if not found)
    if unknown:
        raise typer.BadParameter(f"no benchmark is called {unknown}; there are: {_NAMES}")
    return [b for b in suite.BENCHMARKS if any(b in found for found in chosen.values())]


def _is_meant(benchmark: Benchmark, name: str) -> bool:
    return benchmark.name == name or benchmark.name.startswith(f"{name}-")


def _write(path: Path, facts: dict[str, Any], repeats: int, results: list[Result]) -> None:
    content = {
        "machine": facts,
        "repeats": repeats,
        "results": [result.as_json() for result in results],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    typer.run(main)
