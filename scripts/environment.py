"""Make the project's private virtual environment and install portkit into it, editable.

    python3 scripts/environment.py .venv cli test

Nothing is done, and pip is not called, when the environment already holds the wanted extras of the
same ``pyproject.toml``. ``--empty DIRECTORY`` makes one with pip and nothing else.

Needs only Python 3.11 or later: where ``ensurepip`` is missing (Debian without its
``python3-venv`` package) ``bootstrap_pip.py`` looks for a pip elsewhere. Nothing outside the
directory is written, so an externally managed Python (PEP 668) is left alone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from bootstrap_pip import install_pip

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
STAMP = "portkit-environment.json"
# The interpreter under an active virtual environment: no environment is made from itself.
BASE_PYTHON = getattr(sys, "_base_executable", None) or sys.executable


def fail(message: str) -> NoReturn:
    """Stop with a message and no traceback."""
    sys.exit(f"environment: {message}")


def python_of(directory: Path) -> Path:
    """The environment's own interpreter."""
    return directory / "bin" / "python"


def works(directory: Path, *arguments: str) -> bool:
    """Whether the environment's interpreter runs with these arguments."""
    try:
        command: list[str | Path] = [python_of(directory), *arguments]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def identity(directory: Path) -> dict[str, object]:
    """What must be unchanged for an environment to be used as it is, extras aside."""
    return {
        "project": hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
        "python": [sys.base_prefix, list(sys.version_info[:3])],
        "directory": str(directory),  # scripts hold absolute paths: a moved environment is broken
    }


def read_stamp(directory: Path) -> dict[str, object]:
    """What the last complete installation recorded; empty when there was none."""
    try:
        stamp = json.loads((directory / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_current(stamp: dict[str, object], now: dict[str, object], key: str) -> bool:
    """Whether one recorded property still holds."""
    return stamp.get(key) == now[key]


def create(directory: Path) -> None:
    """Make an empty environment that has a pip."""
    venv = (BASE_PYTHON, "-m", "venv", "--clear")
    if subprocess.run((*venv, str(directory)), capture_output=True, check=False).returncode == 0:
        return
    bare = subprocess.run((*venv, "--without-pip", str(directory)), check=False)
    if bare.returncode or not install_pip(BASE_PYTHON, python_of(directory)):
        shutil.rmtree(directory, ignore_errors=True)
        fail(f"this Python cannot make a virtual environment with pip. {advice()}")


def advice() -> str:
    """The one command that mends a Python without ensurepip."""
    if shutil.which("apt-get"):
        return f"Run: apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    return "Install your system's package for Python virtual environments, or pip, and try again."


def prepare(directory: Path, stamp: dict[str, object], now: dict[str, object]) -> bool:
    """Leave a working environment in place; true when it had to be made."""
    if directory.exists():
        if any(directory.iterdir()) and not (directory / "pyvenv.cfg").exists():
            fail(f"{directory} is not a virtual environment: move it away or name another")
        same = all(is_current(stamp, now, key) for key in ("python", "directory"))
        if same and works(directory, "-m", "pip", "--version"):
            return False
        shutil.rmtree(directory)
    print(f"environment: making {directory.name} with Python {sys.version.split()[0]}", flush=True)
    create(directory)
    return True


def install(directory: Path, extras: set[str]) -> bool:
    """Install the project, editable, with these extras; false when pip could not."""
    target = f"{ROOT}[{','.join(sorted(extras))}]"
    print(f"environment: installing portkit[{','.join(sorted(extras))}]", flush=True)
    pip = (python_of(directory), "-m", "pip", "--disable-pip-version-check")
    command = (*pip, "install", "-qq", "--editable", target)
    return subprocess.run(command, check=False).returncode == 0


def main(arguments: list[str]) -> None:
    """Bring the environment named first up to date with the extras named after it."""
    if sys.version_info < OLDEST:
        fail(f"Python 3.11 or later is needed, this is {sys.version.split()[0]}")
    if not arguments:
        fail("usage: environment.py DIRECTORY [EXTRA ...], or --empty DIRECTORY")
    if arguments[0] == "--empty":
        create(Path(arguments[1]))
        return
    directory, wanted = Path(arguments[0]).absolute(), set(arguments[1:])
    stamp, now = read_stamp(directory), identity(directory)
    recorded = stamp.get("extras")
    installed = set(recorded) if isinstance(recorded, list) else set()
    if all(is_current(stamp, now, key) for key in now) and wanted <= installed:
        if works(directory, "-c", ""):
            return
        stamp = {}
    if prepare(directory, stamp, now):
        installed, stamp = set(), {**now, "project": None}
    extras = wanted | installed
    (directory / STAMP).unlink(
        missing_ok=True
    )  # an interrupted installation leaves none: made anew
    done = install(directory, extras)
    after = {**now, "extras": sorted(extras)} if done else stamp  # pip changes nothing, or all
    (directory / STAMP).write_text(json.dumps(after) + "\n")
    if not done:
        fail("pip could not install the project; its message is above")


if __name__ == "__main__":
    main(sys.argv[1:])
