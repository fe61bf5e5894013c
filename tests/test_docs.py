"""The documentation holds: every snippet runs, and prints what the page says it prints.

The ``python`` blocks of a page run in their order in one namespace, in a process of their own. A
``text`` block is the output of the ``python`` block above it; one without prints nothing. A block
with ``title="NAME.py"`` is a file, in the folder where the others run. A block
below ``<!-- not run: REASON -->`` does not run; one that only includes an example
(``--8<-- "examples/NAME.py"``) is run by test_examples.py.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

import portkit
import portkit.errors
from tests.support import PATIENCE, complaints

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXEMPT = re.compile(r"<!-- not run: \S.* -->")
INCLUDED = re.compile(r'--8<-- "(examples/\S+)"')

RUNNER = """
import contextlib, io, json, sys
space = {"__name__": "__main__"}
outputs = []
page, blocks = json.load(sys.stdin)
for line, code in blocks:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile("\\n" * line + code, page, "exec"), space)
    outputs.append(output.getvalue())
print(json.dumps(outputs))
"""


@dataclass
class Block:
    """A fenced block; ``line`` counts from 0 and is that of its first line of text."""

    line: int
    language: str
    title: str | None
    text: str
    exempt: bool

    @property
    def included(self) -> str | None:
        """The example's file that this block consists of."""
        match = INCLUDED.fullmatch(self.text.strip())
        return match and match[1]


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, those of its notes and tabs too."""
    lines = page.read_text(encoding="utf-8").splitlines()
    blocks: list[Block] = []
    before = ""
    number = 0
    while number < len(lines):
        if fence := re.match(r'( *)```(\w*)(?: title="(\S+)")?', lines[number]):
            start = number + 1
            end = lines.index(f"{fence[1]}```", start)
            text = textwrap.dedent("\n".join(lines[start:end])) + "\n"
            exempt = bool(EXEMPT.fullmatch(before))
            blocks.append(Block(start, fence[2], fence[3], text, exempt))
            number = end
        before = lines[number].strip() or before
        number += 1
    return blocks


def programs(page: Path) -> list[tuple[Block, str]]:
    """The ``python`` blocks of a page that run here, each with the output that the page shows."""
    found: list[tuple[Block, str]] = []
    shown: Block | None = None
    for block in blocks_of(page):
        if block.language == "text":
            assert shown is not None, f"{page}:{block.line}: no program prints this"
            if not (shown.exempt or shown.included):
                found[-1] = (shown, block.text)
            shown = None
        elif block.language == "python" and block.title is None:
            shown = block
            if not (block.exempt or block.included):
                found.append((block, ""))
    return found


def page_id(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", [page for page in PAGES if programs(page)], ids=page_id)
def test_snippets_run_and_print_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    found = programs(page)
    for block in blocks_of(page):
        if block.title is not None:
            (tmp_path / block.title).write_text(block.text)
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short: not tmp_path
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", RUNNER],
            input=json.dumps([str(page), [(block.line, block.text) for block, _ in found]]),
            cwd=tmp_path,
            env={**os.environ, "PORTKIT_RUNTIME_DIR": folder},
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,  # a page may start a dozen programs
            check=False,
        )
    assert complaints(done.stderr) == ""
    assert done.returncode == 0
    for (block, shown), printed in zip(found, json.loads(done.stdout), strict=True):
        assert printed == shown, f"{page}:{block.line + 1}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_block_says_what_it_is(page: Path) -> None:
    known = {"c", "hex", "json", "objc", "python", "sh", "text", "toml"}
    assert {block.language for block in blocks_of(page)} <= known


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_included_examples_are_there(page: Path) -> None:
    for block in blocks_of(page):
        assert block.included is None or (ROOT / block.included).is_file()


def reference_entries() -> set[str]:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    return set(re.findall(r"^::: (\S+)$", reference, re.MULTILINE))


def is_public(module: str, name: str) -> bool:
    imported = importlib.import_module(module)
    if name in getattr(imported, "__all__", ()) or f"{module}.{name}" in reference_entries():
        return True
    return imported is portkit and find_spec(f"{module}.{name}") is not None


def test_pages_and_examples_use_public_names_only() -> None:
    """Those that a package of portkit lists, or the reference describes, and its modules."""
    programs = {
        f"{page.name}:{block.line}": block.text
        for page in PAGES
        for block in blocks_of(page)
        if block.language == "python" and not block.included
    }
    programs |= {path.name: path.read_text() for path in (ROOT / "examples").glob("*.py")}
    used = {
        (where, node.module or "", alias.name)
        for where, text in programs.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("portkit")
        for alias in node.names
    }
    assert len(used) > 100
    inner = {found for found in used if not is_public(*found[1:])}
    # In place of the command, which would take the example much longer.
    assert inner == {("hosts_with_tls.py", "portkit.cli.certs.folder", "CertsFolder")}


def test_make_targets_that_the_pages_name_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"(?:^|`)make (\w+)", pages, re.MULTILINE))
    assert {"demo", "test"} <= named <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))


def test_errors_that_the_pages_explain_are_raised_somewhere() -> None:
    packages = (ROOT / "portkit", ROOT / "transports" / "portkit_transports")
    files = [path for package in packages for path in package.rglob("*.py")]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in files)
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)  # a text over several lines
    table = (ROOT / "docs" / "hosts.md").read_text(encoding="utf-8").split("## Troubleshooting")[1]
    texts = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    patterns = [r"[^\n]*?".join(map(re.escape, text.split("…"))) for text in texts]
    assert len(patterns) > 10
    assert [pattern for pattern in patterns if not re.search(pattern, sources)] == []


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link]
    assert inside
    assert [link for link in inside if not (ROOT / link).exists()] == []


DESCRIBED = [
    "aio", "hooks", "loops", "notifications", "otel", "prometheus", "remote", "runloop",
    "statistics", "typed", "workers",
]  # fmt: skip


@pytest.mark.parametrize("module", ["portkit", *[f"portkit.{name}" for name in DESCRIBED]])
def test_reference_has_every_public_name(module: str) -> None:
    """Under the module's own name, or as one of portkit; or the module as a whole."""
    entries = reference_entries()
    errors = {name for name in vars(portkit.errors) if name.endswith("Error")}
    assert "portkit.errors" in entries
    names = set(importlib.import_module(module).__all__) - errors
    if module not in entries:
        assert names - {entry.removeprefix(f"{module}.") for entry in entries} <= {
            entry.removeprefix("portkit.") for entry in entries
        }
