"""``portkit certs``: what its commands do, and what they say."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from portkit.cli.certs.errors import CertsError
from portkit.cli.certs.shared_key import make_key

DONE = 0
FAILED = 1
WRONG_USAGE = 2


def run_init(folder: Path, *, name: str, days: int, force: bool) -> int:
    """Make an authority, and say what to do with it.

    Returns:
        The exit status.
    """

    def init() -> None:
        from portkit.cli.certs.folder import CertsFolder  # noqa: PLC0415 - see _run

        certs = CertsFolder(folder)
        ends = certs.init(name, days, force=force)
        print(f"Certificate  {certs.authority}  (every peer needs a copy)")
        print(f"Private key  {certs.authority_key}  (stays here, and secret)")
        print(f"Valid until  {ends:%Y-%m-%d}")
        print()
        print("For each peer, with the names and addresses at which it listens:")
        print(f"  portkit certs issue NAME --host HOST --folder {shlex.quote(str(folder))}")

    return _run(init)


def run_issue(folder: Path, name: str, *, hosts: Sequence[str], days: int, force: bool) -> int:
    """Make one peer's key and certificate, and say how to use them.

    Returns:
        The exit status.
    """

    def issue() -> None:
        from portkit.cli.certs.folder import CertsFolder  # noqa: PLC0415 - see _run

        certs = CertsFolder(folder)
        ends = certs.issue(name, hosts, days, force=force)
        use = shlex.quote(f"{folder}:{name}")
        print(f"Certificate  {certs.certificate(name)}  (for {', '.join([name, *hosts])})")
        print(f"Private key  {certs.key(name)}  (secret)")
        print(f"Valid until  {ends:%Y-%m-%d}")
        print()
        print(f"The peer needs both and {certs.authority}, in one folder. In Python:")
        print(f"  tls = TLSConfig.from_folder({str(folder)!r}, {name!r})")
        print("For a worker:")
        print(f"  portkit worker MODULE:FUNCTION --main socket://HOST:PORT --tls {use}")

    return _run(issue)


def run_key(folder: Path, key_id: str) -> int:
    """Make a pre-shared key, and say how to use it.

    Returns:
        The exit status.
    """

    def key() -> None:
        path = make_key(folder, key_id)
        print(f"Pre-shared key  {path}  (secret)")
        print()
        print("Both sides need a copy of the file that its user alone may read. In Python:")
        print(f"  key = PreSharedKey.read({str(path)!r})")
        print("For a worker:")
        psk = shlex.quote(str(path))
        print(f"  portkit worker MODULE:FUNCTION --main socket://HOST:PORT --psk {psk}")

    return _run(key)


def _run(work: Callable[[], None]) -> int:
    """Do it. Modules that need ``cryptography`` are imported in it: it may not be installed."""
    try:
        work()
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing != "cryptography":
            raise
        return _fail(f'this needs {missing}: pip install "portkit[cli]"', FAILED)
    except CertsError as error:
        return _fail(str(error), FAILED)
    except ValueError as error:
        return _fail(str(error), WRONG_USAGE)
    return DONE


def _fail(problem: str, status: int) -> int:
    print("portkit certs:", problem, file=sys.stderr)
    return status
