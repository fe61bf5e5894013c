"""``portkit schema``: what it does, and what it says."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

DONE = 0
FAILED = 1
WRONG_USAGE = 2


class Format(StrEnum):
    """What is written."""

    JSON = "json"
    MARKDOWN = "markdown"
    BOTH = "both"


class _ProblemError(Exception):
    """Why there is nothing to write; ``args`` are the text and the exit status."""


def run_schema(target: str, output: Path | None, wanted: Format | None) -> int:
    """Write what a router's messages look like.

    Args:
        target: ``module``, or ``module:router``; modules of the working directory are found, too.
        output: the folder; None for standard output.
        wanted: by default JSON for standard output, and both for a folder.

    Returns:
        The exit status.
    """
    if (here := str(os.getcwd())) not in sys.path:  # noqa: PTH109 - only its name is wanted
        sys.path.insert(0, here)
    wanted = wanted or (Format.JSON if output is None else Format.BOTH)
    try:
        title, document = _described(target)
        texts = _texts(document, wanted)
        if output is None:
            print("\n".join(texts.values()), end="")
        else:
            _write(output, title.replace(":", "."), texts)
    except _ProblemError as problem:
        text, status = problem.args
        print(f"portkit schema: {text}", file=sys.stderr)
        return int(status)
    return DONE


def _described(target: str) -> tuple[str, dict[str, Any]]:
    from portkit.typed.schema import schema_of  # noqa: PLC0415 - pydantic loads slowly

    module, colon, name = target.partition(":")
    if module and colon and not name:
        raise _ProblemError(f"{target!r} names no router: write {module}:ROUTER", WRONG_USAGE)
    title, router = _router(_imported(module), module, name)
    try:
        return title, schema_of(router, title)
    except TypeError as error:
        raise _ProblemError(f"{title}: {error}", FAILED) from None


def _imported(name: str) -> ModuleType:
    if not name or name.startswith("."):
        raise _ProblemError(f"{name!r} is no module: write MODULE or MODULE:ROUTER", WRONG_USAGE)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failing(name, error) from None
        raise _ProblemError(
            f"there is no module {error.name!r}, in {os.getcwd()} or elsewhere",  # noqa: PTH109
            WRONG_USAGE,
        ) from None
    except (Exception, SystemExit) as error:
        raise _failing(name, error) from None


def _failing(name: str, error: BaseException) -> _ProblemError:
    report = traceback.TracebackException.from_exception(error)
    theirs = [frame for frame in report.stack if not _is_ours(frame.filename)]
    report.stack = traceback.StackSummary.from_list(theirs)
    shown = "".join(report.format()).rstrip()
    return _ProblemError(f"{name} cannot be imported:\n{shown}", FAILED)


def _is_ours(file: str) -> bool:
    """Whether that is no part of the program: what imports it."""
    return file == __file__ or "importlib" in file


def _router(module: ModuleType, where: str, name: str) -> tuple[str, Any]:
    """The router that is meant, and what to call it."""
    from portkit.typed import Router  # noqa: PLC0415 - pydantic loads slowly

    found = {key: value for key, value in vars(module).items() if isinstance(value, Router)}
    known = ", ".join(f"{where}:{key}" for key in found) or "none"
    if name:
        router: Any = module
        for part in name.split("."):
            router = getattr(router, part, None)
        if isinstance(router, Router):
            return f"{where}:{name}", router
        close = get_close_matches(name, found, 1)
        hint = f"; did you mean {where}:{close[0]}?" if close else f". Routers there: {known}"
        what = "is not there" if router is None else f"is a {type(router).__name__}, not a Router"
        raise _ProblemError(f"{where}:{name} {what}{hint}", WRONG_USAGE)
    if len({id(router) for router in found.values()}) > 1:
        raise _ProblemError(f"{where} has several routers, name one: {known}", WRONG_USAGE)
    for key, router in found.items():
        return f"{where}:{key}", router
    raise _ProblemError(
        f"{where} has no Router; it is looked for among the names of the module, as in "
        "router = Router()",
        WRONG_USAGE,
    )


def _texts(document: Mapping[str, Any], wanted: Format) -> dict[str, str]:
    from portkit.typed.page import page_of  # noqa: PLC0415 - pydantic loads slowly

    texts = {}
    if wanted != Format.MARKDOWN:
        texts["schema.json"] = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if wanted != Format.JSON:
        texts["md"] = page_of(document)
    return texts


def _write(folder: Path, name: str, texts: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for ending, text in texts.items():
            file = folder / f"{name}.{ending}"
            file.write_text(text, encoding="utf-8")
            print(file)
    except OSError as error:
        raise _ProblemError(f"{error.filename}: {error.strerror}", FAILED) from None
