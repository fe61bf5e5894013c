"""Give a virtual environment a pip where Python came without ``ensurepip``.

In order: a pip that the base Python already has; a pip wheel among those that the system keeps for
its own virtual environments or that pip's settings name (``find-links``); a download from the index
that pip's settings name (``PIP_INDEX_URL``, ``PIP_EXTRA_INDEX_URL``, its configuration files). No
index is assumed.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

WHEEL = re.compile(r"pip-(\d+(?:\.\d+)*)-py3-none-any\.whl")
WHEEL_FOLDERS = ("/usr/share/python-wheels", "/usr/share/python3-wheels")
TIMEOUT = 30


def install_pip(base_python: str, target_python: Path) -> bool:
    """Install pip for ``target_python``; false when no way is open."""
    if pip_from_base(base_python, target_python):
        return True
    folders = (*WHEEL_FOLDERS, *settings().get("find-links", "").split())
    wheel = newest(path for folder in folders for path in Path(folder).glob("pip-*.whl"))
    if wheel is not None and pip_from_wheel(target_python, wheel):
        return True
    with tempfile.TemporaryDirectory() as folder:
        downloaded = download_wheel(Path(folder))
        return downloaded is not None and pip_from_wheel(target_python, downloaded)


def run(*command: str | Path) -> bool:
    """Whether a command ends well; what it prints is not shown."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def pip_from_base(base_python: str, target_python: Path) -> bool:
    """Let the base Python's pip, 22.3 or later, install pip into the environment."""
    return run(base_python, "-m", "pip", "--python", target_python, "install", "--quiet", "pip")


def pip_from_wheel(target_python: Path, wheel: Path) -> bool:
    """Run pip straight from its wheel, which installs the same wheel."""
    return run(target_python, wheel / "pip", "install", "--quiet", "--no-index", wheel)


def version_of(name: str) -> tuple[int, ...] | None:
    """The version in a pip wheel's file name; nothing for other files and for pre-releases."""
    match = WHEEL.fullmatch(name)
    return tuple(int(part) for part in match[1].split(".")) if match else None


def newest(paths: Iterable[Path]) -> Path | None:
    """The wheel of the highest version."""
    known = [(version, path) for path in paths if (version := version_of(path.name)) is not None]
    return max(known)[1] if known else None


# --- pip's own settings ---------------------------------------------------------------------------


def configuration_files() -> list[Path]:
    """Where pip keeps its settings, the weakest first."""
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    site = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    files = [Path(folder) / "pip" / "pip.conf" for folder in reversed(site.split(os.pathsep))]
    files += [Path("/etc/pip.conf"), Path.home() / ".pip" / "pip.conf", home / "pip" / "pip.conf"]
    return [*files, Path(named)] if named else files


def settings() -> dict[str, str]:
    """The settings that concern a download, environment variables above files."""
    parser = configparser.RawConfigParser()
    parser.read(configuration_files())
    found: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            found.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    for name in ("index-url", "extra-index-url", "find-links", "no-index", "cert", "trusted-host"):
        value = os.environ.get("PIP_" + name.upper().replace("-", "_"))
        if value:
            found[name] = value
    return found


# --- the simple repository interface (PEP 503) ----------------------------------------------------


class Links(HTMLParser):
    """The usable pip wheels of an index page: file name to address."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.page = page
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect a link to a wheel that is not yanked and runs on this Python."""
        attributes = dict(attrs)
        address = urllib.parse.urljoin(self.page, attributes.get("href") or "")
        name = urllib.parse.unquote(urllib.parse.urlsplit(address).path.rpartition("/")[2])
        if tag != "a" or version_of(name) is None or "data-yanked" in attributes:
            return
        lowest = re.search(r">=\s*(\d+)\.(\d+)", attributes.get("data-requires-python") or "")
        if lowest is None or (int(lowest[1]), int(lowest[2])) <= sys.version_info[:2]:
            self.found[name] = address


def fetch(address: str, context: ssl.SSLContext) -> tuple[str, bytes]:
    """Where a page was found in the end, and its body; credentials in the address are sent."""
    parts = urllib.parse.urlsplit(address)
    credentials, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(parts._replace(netloc=host, fragment="").geturl())
    if credentials:
        token = base64.b64encode(urllib.parse.unquote(credentials).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as response:
        final = urllib.parse.urlsplit(response.geturl())
        same_host = credentials and final.netloc == host
        return (
            final._replace(netloc=f"{credentials}@{host}") if same_host else final
        ).geturl(), response.read()


def is_trusted(index: str, trusted_hosts: list[str]) -> bool:
    """What pip accepts too: encryption, this machine, or a host that the settings trust."""
    parts = urllib.parse.urlsplit(index)
    if parts.scheme == "https":
        return True
    host = parts.netloc.rpartition("@")[2]
    return parts.scheme == "http" and (
        parts.hostname in {"localhost", "127.0.0.1", "::1", *trusted_hosts} or host in trusted_hosts
    )


def download_wheel(folder: Path) -> Path | None:
    """Download the newest pip from the first configured index that has one, checking its digest."""
    found = settings()
    if found.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        return None
    context = ssl.create_default_context(cafile=found.get("cert") or None)
    for index in f"{found.get('index-url', '')} {found.get('extra-index-url', '')}".split():
        if not is_trusted(index, found.get("trusted-host", "").split()):
            continue
        try:
            page, body = fetch(index.rstrip("/") + "/pip/", context)
            links = Links(page)
            links.feed(body.decode())
            wheel = newest(map(Path, links.found))
            if wheel is None:
                continue
            address = links.found[wheel.name]
            content = fetch(address, context)[1]
        except (OSError, ValueError, urllib.error.URLError):
            continue  # the next index may answer; with none, the caller says what to do
        algorithm, _, digest = urllib.parse.urlsplit(address).fragment.partition("=")
        if algorithm == "sha256" and hashlib.sha256(content).hexdigest() == digest:
            path = folder / wheel.name
            path.write_bytes(content)
            return path
    return None
