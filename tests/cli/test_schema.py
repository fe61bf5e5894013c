"""``portkit schema``: what is written, where to, and what wrong usage is told."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from portkit.cli import app as application
from portkit.cli.app import app
from tests.cli.helpers import PORTKIT, environment, run

JOBS = '''
from portkit.typed import Payload, Router

class Job(Payload, msgid=7):
    """Something to do."""
    path: str

class Result(Payload, msgid=8):
    size: int

router = same = Router()

@router.on(Job)
def work(job: Job) -> Result:
    """Do it."""
    return Result(size=3)
'''


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder with programs."""
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "several.py").write_text(f"{JOBS}\nother = Router()\n")
    (tmp_path / "nothing.py").write_text("router = 3\n")
    (tmp_path / "broken.py").write_text("def fail():\n    1 / 0\n\nfail()\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(7)\n")
    (tmp_path / "missing.py").write_text("import no_such_module_at_all\n")
    (tmp_path / "typo.py").write_text("def :\n")
    (tmp_path / "odd.py").write_text(
        f"{JOBS}\nfrom collections.abc import Callable\n"
        "class Odd(Payload, msgid=9):\n    call: Callable[[], None]\n"
        "router.on(Odd)(print)\n"
    )
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "inner.py").write_text(f"{JOBS}\nclass Holder:\n    inner = Router()\n")
    return tmp_path


@pytest.fixture(autouse=True)
def here(program: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work there; what was imported from there is forgotten."""
    monkeypatch.chdir(program)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(program)):
            del sys.modules[name]
    sys.modules.pop("package", None)  # a folder without a file of its own


def schema(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["schema", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_as_a_command(program: Path) -> None:
    done = run(*PORTKIT, "schema", "jobs", cwd=program, env=environment())
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["title"] == "jobs:router"


def test_json_on_standard_output() -> None:
    status, output, errors = schema("jobs")
    assert (status, errors) == (0, "")
    document = json.loads(output)
    assert document["title"] == "jobs:router"
    assert [entry["msgid"] for entry in document["messages"]] == [7, 8]
    assert set(document["$defs"]) == {"Job", "Result"}


def test_the_page_on_standard_output() -> None:
    status, output, errors = schema("jobs:same", "--format", "markdown")
    assert (status, errors) == (0, "")
    assert output.startswith("# Messages of `jobs:same`\n")
    assert "| 7 | [Job](#job) | [Result](#result) |" in output


def test_files_in_a_folder(program: Path) -> None:
    status, output, errors = schema("package.inner:Holder.inner", "--output", "a/b")
    assert (status, errors) == (0, "")
    names = ["package.inner.Holder.inner.schema.json", "package.inner.Holder.inner.md"]
    assert output.splitlines() == [f"a/b/{name}" for name in names]
    assert json.loads((program / "a/b" / names[0]).read_text())["messages"] == []
    assert (program / "a/b" / names[1]).read_text().startswith("# Messages of")
    _, output, _ = schema("jobs", "--output", "c", "--format", "json")
    assert output.splitlines() == ["c/jobs.router.schema.json"]
    assert [file.name for file in (program / "c").iterdir()] == ["jobs.router.schema.json"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["no_such"], 2, "there is no module 'no_such', in "),
        (["jobs.inner"], 2, "there is no module 'jobs.inner', in "),
        ([":router"], 2, "'' is no module: write MODULE or MODULE:ROUTER"),
        (["jobs:"], 2, "'jobs:' names no router: write jobs:ROUTER"),
        ([".jobs"], 2, "'.jobs' is no module"),
        (["nothing"], 2, "nothing has no Router; it is looked for among the names of the module"),
        (["several"], 2, "several has several routers, name one: several:router, several:same, s"),
        (["jobs:routr"], 2, "jobs:routr is not there; did you mean jobs:router?"),
        (["jobs:xyz"], 2, "jobs:xyz is not there. Routers there: jobs:router, jobs:same"),
        (["nothing:router"], 2, "nothing:router is a int, not a Router. Routers there: none"),
        (["broken"], 1, "ZeroDivisionError: division by zero"),
        (["broken"], 1, 'broken.py", line 2, in fail'),
        (["leaving"], 1, "leaving cannot be imported:"),
        (["missing"], 1, "No module named 'no_such_module_at_all'"),
        (["typo"], 1, "SyntaxError"),
        (["odd"], 1, "odd:router: a payload cannot be described: "),
        (["jobs", "--output", "jobs.py"], 1, "jobs.py: "),
        (["jobs", "--format", "yaml"], 2, "'yaml'"),
        ([], 2, "MODULE[:ROUTER]"),
    ],
)
def test_what_cannot_be_done(arguments: list[str], status: int, said: str) -> None:
    done, output, errors = schema(*arguments)
    assert done == status
    assert output == ""
    assert said in errors
    assert "importlib" not in errors


def test_help_names_every_option() -> None:
    status, output, _ = schema("--help")
    assert status == 0
    for name in inspect.signature(application.schema).parameters:
        assert ("MODULE[:ROUTER]" if name == "target" else f"--{name}") in output
    assert "Exit status" in output
