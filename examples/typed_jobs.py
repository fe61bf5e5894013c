"""Typed jobs: a process that counts words, and one that asks it, wrongly too.

The payloads and the router are all that the two share. A file goes beside the encoded fields, as an
open descriptor; progress comes back through a port that was a field, and the counts as an answer.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

from pydantic import Field

from portkit import (
    Descriptor,
    InvalidPayloadError,
    MessagePort,
    Payload,
    Port,
    PortMessage,
    Router,
    RunLoop,
    Session,
    WorkerGroup,
)


class CountWords(Payload, msgid=1):
    """Count the words of a text file."""

    file: Descriptor
    most: Annotated[int, Field(ge=1, description="how many of the words to tell")] = 3
    progress: Port | None = None


class Counts(Payload, msgid=2):
    """The words that are used most."""

    words: dict[str, int]
    lines: int


class Progress(Payload, msgid=3):
    """How far it is."""

    lines: int


router = Router()


@router.on(CountWords)
def count(job: CountWords) -> Counts:
    """Read the file to its end."""
    words: Counter[str] = Counter()
    lines = 0
    with job.file as file, open(file.fileno(), encoding="utf-8", closefd=False) as text:
        for lines, line in enumerate(text, start=1):
            words.update(line.split())
            if job.progress is not None and lines % 100 == 0:
                job.progress.send(Progress(lines=lines))
    return Counts(words=dict(words.most_common(job.most)), lines=lines)


def worker(session: Session) -> None:
    """The process that counts."""
    session.port.delegate = router
    session.run()


def main() -> None:
    """Have a file counted, and see what is said to a job that makes no sense."""

    def tell(message: PortMessage) -> None:
        print(Progress.from_message(message).lines, "lines so far")

    with (
        tempfile.TemporaryDirectory() as folder,
        MessagePort(delegate=tell) as progress,
        WorkerGroup("typed_jobs:worker", count=1, over="message", check_in_timeout=20.0) as group,
    ):
        RunLoop.current().add_port(progress)
        path = Path(folder, "text")
        path.write_text("to be or not to be\n" * 250, encoding="utf-8")
        (counter,) = group.workers
        with path.open() as file, Descriptor(file) as descriptor:
            job = CountWords(file=descriptor, progress=progress)
            counts = counter.port.request(
                job, reply=Counts, reply_timeout=20.0, reply_mode="default"
            )
        print(counts.lines, "lines:", counts.words)
        try:
            counter.port.request(b'{"most": 0}', msgid=CountWords.msgid)
        except InvalidPayloadError as error:
            print("refused:", error)


if __name__ == "__main__":
    main()
