"""Run pyright over the sources, then check that the public types, as installed, are complete."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("portkit", "portkit_transports")


def pyright(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run pyright on this environment's packages."""
    settings = {
        **os.environ,
        # Not --pythonpath, which --verifytypes does not heed: it asks the first python on PATH.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",  # it would ask for newer releases
    }
    command = (sys.executable, "-m", "pyright", *arguments)
    return subprocess.run(
        command, cwd=folder, env=settings, check=False, text=True, stdout=subprocess.PIPE
    )


def passed(what: str, done: subprocess.CompletedProcess[str]) -> bool:
    """Whether pyright found nothing to say; what it found is shown."""
    if done.returncode:
        print(done.stdout, end="")
    print(f"{what}: {'failed' if done.returncode else 'ok'}", flush=True)
    return done.returncode == 0


def complete(package: str) -> bool:
    """Whether a user of the package sees every type.

    Run from an empty folder: pyright is to find what is installed, not the sources beside it.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = pyright("--verifytypes", package, "--ignoreexternal", folder=Path(folder))
    return passed(f"completeness of the types of {package}", done)


if __name__ == "__main__":
    checks = [passed("pyright", pyright()), *(complete(package) for package in PACKAGES)]
    sys.exit(0 if all(checks) else 1)
