"""``portkit demo``: the main job from the command line."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path
from time import monotonic

from portkit import PortError
from portkit.cli.demo.digest import digest_file
from portkit.cli.demo.display import Display
from portkit.cli.demo.files import find_files, shown, standard_library
from portkit.cli.demo.job import HashJob
from portkit.cli.demo.sides import TARGET, Side, side_of
from portkit.registry import transport
from portkit.workers import WorkerGroup

COMPLETE = 0
INCOMPLETE = 1
WRONG_USAGE = 2
WORKERS_LOST = 3
INTERRUPTED = 128 + signal.SIGINT


def run_demo(
    path: Path | None,
    *,
    workers: int | None,
    over: str,
    verify: bool,
    crash: bool = False,
    listen: str | None = None,
    tls: str | None = None,
    psk: Path | None = None,
) -> int:
    """Run the job and show it.

    Args:
        path: what to hash; None is the standard library.
        workers: how many; None is one for each processor.
        over: the scheme of the transport to the workers.
        verify: hash everything again in this thread, and compare.
        crash: let a worker fail half-way.
        listen: ``HOST:PORT`` at which workers of other hosts check in; None for none such.
        tls: ``FOLDER:NAME``, the main side's certificate there.
        psk: the file of a pre-shared key, there.

    Returns:
        The exit status.
    """
    display = Display()
    try:
        transport(over)
        side = side_of(over, listen, tls, psk)
    except (PortError, ValueError) as error:
        display.say(f"portkit demo: {error}")
        return WRONG_USAGE
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        display.say(f'portkit demo: this needs {missing}: pip install "portkit[cli]"')
        return INCOMPLETE
    except KeyboardInterrupt:
        return INTERRUPTED
    try:
        return _run(path, side, workers, over, display, verify=verify, crash=crash)
    finally:
        side.close()


def _run(
    path: Path | None,
    side: Side,
    workers: int | None,
    over: str,
    display: Display,
    *,
    verify: bool,
    crash: bool,
) -> int:
    try:
        group = WorkerGroup(TARGET, count=workers, over=over, **side.options)
    except (PortError, ValueError) as error:
        display.say(f"portkit demo: {error}")
        return WRONG_USAGE
    root = path or standard_library()
    try:
        files, unlisted = _list(root, display)
        if not files:
            display.say(f"{shown(root)}: there are no files here, so there is nothing to do")
            return INCOMPLETE
        job = HashJob(group, files, say=display.say, side=side, crash=crash)
    except KeyboardInterrupt:
        display.say("interrupted: the files were still being listed")
        return INTERRUPTED
    began = monotonic()
    try:
        with side.attend(group, display.say), display.progress(job):
            job.run()
        display.summary(job, max(monotonic() - began, 1e-6), over, _tree_digest(job, root))
        differ = _verify(job, display) if verify else 0
    except PortError as error:
        display.say(f"portkit demo: {error}")
        return INCOMPLETE
    except ValueError as error:
        display.say(f"portkit demo: {error}")
        return WRONG_USAGE
    except KeyboardInterrupt:
        display.say(f"interrupted: {job.done} of {job.total} files were through")
        return INTERRUPTED
    return _conclude(job, unlisted, differ, display)


def _conclude(job: HashJob, unlisted: int, differ: int, display: Display) -> int:
    """Say what is missing, if anything is; the exit status."""
    shortcomings = {
        "without a digest": len(job.failures),
        "not listed": unlisted,
        "not verified": differ,
    }
    if any(shortcomings.values()):
        found = ", ".join([f"{count} {what}" for what, count in shortcomings.items() if count])
        display.say(f"incomplete: {found}")
        return INCOMPLETE
    if job.lost:
        display.say(f"complete, although workers were lost: {len(job.lost)}")
        return WORKERS_LOST
    return COMPLETE


def _list(root: Path, display: Display) -> tuple[list[Path], int]:
    """The files under ``root``, and how many places could not be looked at."""
    errors: list[OSError] = []
    files = find_files(root, errors.append)
    for error in errors:
        display.say(f"{shown(error.filename)}: {error.strerror}")
    return files, len(errors)


def _tree_digest(job: HashJob, root: Path) -> str:
    """One SHA-256 over the relative names and digests of all files, in order."""
    tree = hashlib.sha256()
    for file in sorted(job.digests):
        tree.update(os.fsencode(file.relative_to(root)) + b"\0" + job.digests[file].sha256)
    return tree.hexdigest()


def _verify(job: HashJob, display: Display) -> int:
    """Hash the files again, here, and say which differ; how many do."""
    differ = 0
    began = monotonic()
    with display.steps("verifying", len(job.digests)) as steps:
        for _, (file, digest) in zip(steps, job.digests.items(), strict=True):
            try:
                same = digest_file(file) == digest
                reason = "the digest differs"
            except OSError as error:
                same, reason = False, error.strerror or str(error)
            if not same:
                differ += 1
                display.say(f"{shown(file)}: not verified: {reason}")
    agree = len(job.digests) - differ
    display.result(
        f"verified: {agree} of {len(job.digests)} digests agree "
        f"({monotonic() - began:.2f} s in one thread)"
    )
    return differ
