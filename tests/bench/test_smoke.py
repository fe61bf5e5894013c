"""The benchmarks run and report; how fast anything is, is not tested."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

pytest.importorskip("rich")
pytest.importorskip("typer")

import typer
from typer.testing import CliRunner

from bench import __main__ as command
from bench import hosts, markdown, report, suite
from bench.calls import ours as remote
from bench.calls import tables as calls
from bench.calls import typed_tables as typed
from bench.ipc import zenoh_sessions
from bench.ipc.address import Network
from bench.ipc.certificates import missing_certificates
from bench.ipc.nng_sockets import pynng
from bench.ipc.spawn import Way
from bench.ipc.zenoh_sessions import zenoh
from bench.model import Benchmark, Contender, Figure, Result, Row


@pytest.fixture(scope="module", autouse=True)
def first_use() -> None:
    """What nng and zenoh open when they are first used, they keep: it must be there before.

    So does the main thread's loop with what it needs for a mode in which it waits.
    """
    if pynng is not None:
        with pynng.Pair0(listen="inproc://bench"), pynng.Pair0(dial="inproc://bench"):
            pass
    if zenoh is not None:
        network: Network = "tcp" if missing_certificates else "tls"
        with Way(zenoh_sessions.serve_calls, zenoh_sessions.call, network=network).open():
            pass
    with Way(remote.serve, remote.connect_listening).open() as (client, _):
        assert client.ring(1) == 2


_SPAWNING = ("process-", "hosts-", "calls-")


def _tested() -> list[Benchmark]:
    """All, but of what differs in an address or a size alone only what runs code of its own."""
    own = {"process-64MiB", "hosts-64MiB", "hosts-crowd-1", "hosts-crowd-5000"}
    own |= {b.name for b in hosts.BENCHMARKS if b.name.endswith("-tls")}
    own -= {"hosts-request-tls", "hosts-crowd-100-tls"}
    tables = (*calls.BENCHMARKS, *typed.BENCHMARKS)
    own |= {b.name for b in tables if b.name.endswith("-tcp")}
    own -= {"calls-add-tcp"}
    found = [b for b in suite.BENCHMARKS if b.name not in own]
    return [_one_of_us(b) if _is_ours_alone(b.name) else b for b in found]


def _is_ours_alone(name: str) -> bool:
    return "-cable-" in name or name == "process-in-place"


def _one_of_us(benchmark: Benchmark) -> Benchmark:
    return dataclasses.replace(benchmark, contenders=benchmark.contenders[:1])


@pytest.mark.parametrize("benchmark", _tested(), ids=lambda benchmark: benchmark.name)
def test_every_contender_gives_every_figure(benchmark: Benchmark) -> None:
    if benchmark.name.startswith(_SPAWNING):  # at each sampling: once is enough
        benchmark = dataclasses.replace(benchmark, pinnings=benchmark.pinnings[-1:])
    for result in suite.run(benchmark, repeats=1, size=min(3, benchmark.quick_size)):
        for row in result.rows:
            assert row.contender.missing or len(row.samples) == 1
            for sample in row.samples:
                assert sample.keys() == {figure.key for figure in benchmark.figures}
                assert all(value >= 0 for value in sample.values())
        assert report.table(result).row_count == len(result.rows)
        json.dumps(result.as_json())


def _two_contenders(*, missing: str = "", rate: bool = False) -> Result:
    figure = Figure("value", "value", compared=True, rate=rate, spread=True)
    first = Row(Contender("first", lambda _: {}), [{"value": 2.0}, {"value": 4.0}])
    second = Row(Contender("second", lambda _: {}, missing))
    if not missing:
        second.samples = [{"value": 4.0}, {"value": 4.0}]
    benchmark = Benchmark("b", "B", (figure,), (first.contender, second.contender), 1, 1)
    return Result(benchmark, pinned=False, size=1, rows=[first, second])


def test_ratios_are_taken_repeat_by_repeat() -> None:
    result = _two_contenders()
    figure = result.benchmark.figures[0]
    assert result.ratios(result.rows[1], figure) == [2.0, 1.0]
    assert report.cells(result, result.rows[1]) == ["4.0", "4.0-4.0", "1.50"]


def test_the_ratio_of_a_rate_is_also_how_many_times_as_slow() -> None:
    result = _two_contenders(rate=True)
    assert result.ratios(result.rows[1], result.benchmark.figures[0]) == [0.5, 1.0]


def test_a_contender_that_is_missing_is_named_and_not_measured() -> None:
    result = _two_contenders(missing="not installed")
    assert report.table(result).row_count == 2
    row = result.as_json()["rows"][1]
    assert row["missing"] == "not installed"
    assert row["figures"] == {}


def _invoke(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command.main)
    outcome = CliRunner().invoke(app, list(arguments))
    return outcome.exit_code, outcome.output


def test_the_command_shows_tables_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    code, output = _invoke("--quick", "--only", "idle", "--json", str(file))
    assert code == 0, output
    assert "portkit, 1 port" in output
    content = json.loads(file.read_text())
    assert content["machine"]["cpus"] >= 1
    assert [result["name"] for result in content["results"]] == ["idle"]
    assert len(content["results"][0]["rows"][0]["figures"]["cpu"]["values"]) == 1


def test_an_unknown_name_is_refused() -> None:
    code, output = _invoke("--only", "nothing")
    assert code == 2
    assert "nothing" in output


def test_an_interrupt_ends_it_with_what_is_complete(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "run", interrupted)
    file = tmp_path / "result.json"
    code, output = _invoke("--quick", "--json", str(file))
    assert code == 130
    assert "Interrupted" in output
    assert json.loads(file.read_text())["results"] == []


def test_runs_become_tables_for_the_documentation() -> None:
    result = _two_contenders().as_json()
    run = {"machine": {"load": [0.1], "load_after": [0.2]}, "repeats": 2, "results": [result]}
    text = "\n".join(markdown.tables([run, run]))
    assert "| first | 3.0 · 3.0 | 1.00 · 1.00 |" in text
    assert "| second | 4.0 · 4.0 | 1.50 · 1.50 |" in text


def test_tables_have_their_headings_where_the_first_contender_is_missing() -> None:
    result = _two_contenders().as_json()
    result["rows"][0] |= {"missing": "not installed", "figures": {}}
    run = {"machine": {"load": [0.1], "load_after": [0.2]}, "repeats": 2, "results": [result]}
    text = "\n".join(markdown.tables([run]))
    assert "| | value | ratio |\n|---|---:|---:|" in text
    assert "| first | not installed |" in text
