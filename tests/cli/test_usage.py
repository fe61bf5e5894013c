"""Options, help, and what wrong usage is told; in this process."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from portkit.cli import app as application
from portkit.cli.app import app


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def portkit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_help_names_every_option() -> None:
    done = portkit("demo", "--help")
    assert done.exit_code == 0
    for name in inspect.signature(application.demo).parameters:
        assert (name if name == "path" else f"--{name}") in done.output.lower()
    assert "Exit status" in done.output


def test_help_of_a_worker_names_every_option() -> None:
    done = portkit("worker", "--help")
    assert done.exit_code == 0
    for name in inspect.signature(application.worker).parameters:
        shown = "MODULE:FUNCTION" if name == "target" else f"--{name.replace('_', '-')}"
        assert shown in done.output
    assert "PORTKIT_WORKER_TOKEN" in done.output


def test_help_names_every_command() -> None:
    done = portkit("--help")
    assert done.exit_code == 0
    assert "demo" in done.output
    assert "worker" in done.output
    assert "--version" in done.output
    assert "--install-completion" not in done.output


def test_without_a_command_it_shows_its_help() -> None:
    assert "Usage" in portkit().output


WRONG: dict[str, tuple[list[str], list[str]]] = {
    "an option": (["demo", "--ovr", "mach"], ["--ovr", "--over"]),
    "a command": (["dem"], ["dem"]),
    "a transport": (
        ["demo", "--over", "mack"],
        ["no transport 'mack'", "did you mean 'mach'?", "Known: mach"],
    ),
    "another transport": (["demo", "--over", "x25"], ["no transport 'x25'", "Known: mach"]),
    "no transport": (["demo", "--over", ""], ["no transport ''"]),
    "a path": (["demo", "no-such-folder"], ["no-such-folder", "does not exist"]),
    "two paths": (["demo", ".", "."], ["extra argument"]),
    "no workers": (["demo", "--workers", "0"], ["--workers"]),
    "too many workers": (["demo", "--workers", "1001"], ["--workers"]),
    "strange workers": (["demo", "--workers", "many"], ["--workers"]),
    "a worker of no group": (["worker", "os:abort"], ["--main"]),
    "a worker of nothing": (["worker", "--main", "message:x"], ["MODULE:FUNCTION"]),
    "a strange index": (
        ["worker", "os:abort", "--main", "message:x", "--index", "-1"],
        ["--index"],
    ),
}


@pytest.mark.parametrize(("arguments", "told"), WRONG.values(), ids=WRONG)
def test_wrong_usage(arguments: list[str], told: list[str]) -> None:
    done = portkit(*arguments)
    assert done.exit_code == 2
    for what in told:
        assert what in done.output


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ([], {}),
        (["--workers", "7"], {"workers": 7}),
        (["--over", "message"], {"over": "message"}),
        (["--verify"], {"verify": True}),
        (["--crash"], {"crash": True}),
        (["--listen", "x:1", "--tls", "a:b"], {"listen": "x:1", "tls": "a:b"}),
        (["--listen", "x:1", "--psk", "y"], {"listen": "x:1", "psk": Path("y")}),
    ],
)
@pytest.mark.parametrize("status", [0, 1, 2, 3, 130])
def test_options_go_in_and_the_status_comes_out(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: list[str],
    arguments: dict[str, Any],
    status: int,
) -> None:
    given: list[Any] = []

    def run_demo(path: Path, **keywords: Any) -> int:
        given.append((path, keywords))
        return status

    monkeypatch.setattr(application, "run_demo", run_demo)
    assert portkit("demo", tmp_path, *options).exit_code == status
    defaults: dict[str, Any] = {"workers": None, "over": "mach", "verify": False, "crash": False}
    defaults |= {"listen": None, "tls": None, "psk": None}
    assert given == [(tmp_path, {**defaults, **arguments})]
