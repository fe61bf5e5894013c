"""A front end and its daemon, in two processes: the objects of each are called by the other.

The interface is all that they share: a protocol class, which type checkers know. The daemon indexes
folders. It tells the front end's object how far it is, gives out an index as an object of its own,
streams what was found, and raises what the interface declares. Nothing but what the interface names
can be called, and nothing is pickled.

Started without arguments this is the daemon, which starts one front end.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from portkit import Connection, MessagePort, RemoteError, RunLoop
from portkit.remote import Service, oneway, raises


class Found(NamedTuple):
    """A word, and where it is. This goes by copy."""

    word: str
    line: int


class UnknownTextError(Exception):
    """There is no such text."""


class Progress(Protocol):
    """What the daemon calls at the front end."""

    def lines_read(self, lines: int) -> None: ...


class Index(Protocol):
    """The words of a text. This goes by reference: it stays where it is."""

    def count(self) -> int: ...
    def words(self, beginning: str = "") -> Iterator[Found]: ...


class Indexer(Protocol):
    """What the daemon serves."""

    @raises(UnknownTextError)
    def index(self, text: str, progress: Progress | None = None) -> Index: ...

    @oneway
    def quit(self) -> None: ...


TEXTS = {"poem": "tyger tyger burning bright\nin the forests of the night\n" * 300}


class WordIndex:
    """An index."""

    def __init__(self) -> None:
        self.found: list[Found] = []

    def count(self) -> int:
        return len(self.found)

    def words(self, beginning: str = "") -> Iterator[Found]:
        return (found for found in self.found if found.word.startswith(beginning))


class IndexerServer:
    """The daemon's root object; that it fits the interface is checked when it is served."""

    def index(self, text: str, progress: Progress | None = None) -> WordIndex:
        if text not in TEXTS:
            raise UnknownTextError(text)
        index = WordIndex()
        for line, words in enumerate(TEXTS[text].splitlines(), start=1):
            index.found += [Found(word, line) for word in words.split()]
            if progress is not None and line % 200 == 0:
                progress.lines_read(line)  # in the front end, while that waits for the index
        return index

    def quit(self) -> None:
        RunLoop.current().stop()


def daemon() -> None:
    """Serve until somebody asks to quit."""
    with MessagePort(f"example-indexer-{os.getpid()}") as port:
        service: Service = Connection.serve(port, IndexerServer(), Indexer)
        with service:
            front = subprocess.Popen([sys.executable, __file__, str(port.name)])
            RunLoop.current().run(timeout=20.0)
            front.wait(timeout=20.0)
    print("daemon: asked to quit")


class Printed:
    """The front end's object."""

    def lines_read(self, lines: int) -> None:
        print("front end:", lines, "lines were read", flush=True)


def front_end(name: str) -> None:
    """Use the daemon of that name."""
    with Connection.to(MessagePort.remote(name)) as connection:
        indexer = connection.root(Indexer)
        index = indexer.index("poem", Printed())
        print("front end:", index.count(), "words, of which these begin with an f:")
        for number, found in enumerate(index.words("f"), start=1):  # a few at a time
            if number == 3:
                break  # and the daemon lets go of the rest
            print("front end:", *found)
        try:
            indexer.index("novel")
        except UnknownTextError as error:
            print("front end: there is no", error)
        try:
            indexer.index("poem", Broken())
        except RemoteError as error:
            print("front end: the daemon was told by us:", error)
        print("front end:", connection.statistics().made, "calls", flush=True)
        indexer.quit()


class Broken:
    """Another object of the front end's."""

    def lines_read(self, lines: int) -> None:
        raise OSError(f"no room for {lines}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        front_end(sys.argv[1])
    else:
        daemon()
