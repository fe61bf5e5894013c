"""What the other process of these tests does, with classes of its own: it is another program."""

from __future__ import annotations

import os
from typing import Any

from portkit import RunLoop
from portkit.typed import Router
from tests.transports.processes.roles import Here
from tests.typed import models, newer

_kept: list[Any] = []


def serve(name: str) -> int:
    """Serve every type of message there is here; this process's number."""
    router = Router()

    @router.on(newer.Job)
    def run(job: newer.Job) -> newer.Result:
        return newer.Result(path=job.path, size=len(job.notes), seconds=job.priority)

    @router.on(models.OpenFile)
    def read(open_file: models.OpenFile) -> bytes:
        with open_file.file as file, open(file.fileno(), "rb", closefd=False) as stream:
            return stream.read()

    @router.on(models.Frame)
    def keep(frame: models.Frame) -> None:
        _kept.append(frame.pixels)

    @router.on(models.Login)
    def log_in(login: models.Login) -> models.Login:
        assert login.password.get_secret_value() == "hush"
        return login

    @router.on(models.Handover)
    def hand_over(handover: models.Handover) -> models.Handover:
        handover.port.send(newer.Job(path="/from afar", notes=("a",)))
        return models.Handover(port=handover.port, either=os.getpid())

    @router.on(models.Anything)
    def die(anything: models.Anything) -> None:
        os._exit(0)

    port = Here.way.open(name, router)
    _kept.append(port)
    RunLoop.current().add_port(port)
    return os.getpid()


def kept(start: int) -> bytes:
    """The first bytes of the data that was kept last."""
    return bytes(_kept[-1][start : start + 4])
