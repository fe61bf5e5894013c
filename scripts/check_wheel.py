"""Build sdist and wheel into ``dist/`` and check them as a user meets them.

The sdist holds what the tests need. The wheel, built from the sdist, holds the two packages and
nothing else; it imports in an empty environment, its entry points load, and its public names
resolve, also from a zip archive where no metadata tells which transports there are.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    "portkit": ROOT / "portkit",
    "portkit_transports": ROOT / "transports/portkit_transports",
}
SDIST_FOLDERS = (".ci", "bench", "docs", "examples", "portkit", "scripts", "tests", "transports")
SDIST_FILES = ("CHANGELOG.md", "LICENSE", "Makefile", "README.md", "mkdocs.yml", "pyproject.toml")

# Run isolated (-I) in the fresh environment; the arguments are the archive or "", and the schemes.
IMPORTS = """
import importlib.metadata, sys
archive, schemes = sys.argv[1], set(sys.argv[2:])
if archive:
    sys.path.insert(0, archive)
import portkit
assert "portkit_transports" not in sys.modules, "importing portkit loaded the transports"
assert archive in portkit.__file__, portkit.__file__
for name in portkit.__all__:
    getattr(portkit, name)
found = {e.name: e for e in importlib.metadata.entry_points(group="portkit.transports")}
assert set(found) == (set() if archive else schemes), sorted(found)
for entry in found.values():
    entry.load()
"""


def fail(message: str) -> None:
    """Stop with a message and no traceback."""
    sys.exit(f"check_wheel: {message}")


def run(*command: str | Path, folder: Path = ROOT) -> None:
    """Run a command, showing what it prints only when it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        print(done.stdout, end="")
        fail(f"{' '.join(map(str, command))[:120]} ended with {done.returncode}")


def build() -> tuple[Path, Path]:
    """The sdist and the wheel that is built from it."""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", dist)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return sdist, wheel


def source_files(folder: Path) -> set[Path]:
    """The files of a source folder, without what Python and tools leave behind."""
    return {
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


def check_same(what: str, found: set[str], wanted: set[str]) -> None:
    """Fail, naming the difference, unless two sets of names are equal."""
    if found != wanted:
        fail(f"{what}: missing {sorted(wanted - found)}, unexpected {sorted(found - wanted)}")


def check_sdist(sdist: Path) -> None:
    """Everything needed to build and test is there."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = (source_files(ROOT / folder) for folder in SDIST_FOLDERS)
    wanted = {str(path.relative_to(ROOT)) for files in folders for path in files} | set(SDIST_FILES)
    check_same("sdist", names - {"PKG-INFO", ".gitignore"}, wanted)


def check_wheel(wheel: Path, project: dict[str, object]) -> None:
    """The two packages, their type markers, licence and entry points, and nothing else."""
    wanted = {
        str(Path(package) / path.relative_to(folder))
        for package, folder in SOURCES.items()
        for path in source_files(folder)
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        check_same("wheel", {name for name in names if not name.startswith(info)}, wanted)
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
    check_same(
        "type markers",
        {f"{p}/py.typed" for p in SOURCES} & names,
        {f"{p}/py.typed" for p in SOURCES},
    )
    if f"{info}/licenses/LICENSE" not in names:
        fail("the wheel has no licence")
    required = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    check_same("requirements", required, set(map(str, as_list(project["dependencies"]))))


def as_list(value: object) -> list[object]:
    """A value of pyproject.toml that is a list."""
    return value if isinstance(value, list) else [value]


def check_installed(wheel: Path, schemes: list[str]) -> None:
    """The wheel works in an empty environment, installed and, without metadata, as an archive."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = folder / "environment"
        run(sys.executable, ROOT / "scripts/environment.py", "--empty", environment)
        python = environment / "bin/python"
        pip = (python, "-m", "pip", "--disable-pip-version-check")
        run(*pip, "install", "--quiet", wheel, folder=folder)
        run(python, "-I", "-W", "error", "-c", IMPORTS, "", *schemes, folder=folder)
        run(*pip, "uninstall", "--quiet", "--yes", "portkit", folder=folder)
        with (
            zipfile.ZipFile(wheel) as source,
            zipfile.ZipFile(folder / "portkit.zip", "w") as target,
        ):
            for member in source.namelist():
                if ".dist-info/" not in member:
                    target.writestr(member, source.read(member))
        archive = str(folder / "portkit.zip")
        run(python, "-I", "-W", "error", "-c", IMPORTS, archive, *schemes, folder=folder)


def main() -> None:
    """Build, then check each artefact."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sdist, wheel = build()
    check_sdist(sdist)
    check_wheel(wheel, project)
    check_installed(wheel, sorted(project["entry-points"]["portkit.transports"]))
    print(f"check_wheel: {sdist.name} and {wheel.name} hold what they should and work")


if __name__ == "__main__":
    main()
