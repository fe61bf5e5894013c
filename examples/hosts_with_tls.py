"""Two hosts that know each other by certificates: a warehouse answers its shop, and nobody else.

Two processes stand for the hosts. An authority is made, and certificates, as ``portkit certs``
makes them; in earnest each host gets ``ca.pem`` and the two files that are its own. Both sides
show theirs, and the warehouse says with ``peer_names`` whose it accepts. So ``message.sender`` is
not what somebody says of themselves: it has the names of a certificate. Somebody else with a
certificate of the same authority is told why they are not let in, and the warehouse's log says who
it was.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from pathlib import Path

from portkit import AuthenticationError, PortMessage, RunLoop, SocketPort, TLSConfig, connect_port
from portkit.cli.certs.folder import CertsFolder

STOCK = {"lamps": 12, "chairs": 4}


def make_certificates(folder: str) -> None:
    """What these commands do, in one go::

    portkit certs init FOLDER
    portkit certs issue warehouse --host 127.0.0.1 --folder FOLDER
    portkit certs issue shop --folder FOLDER
    portkit certs issue visitor --folder FOLDER
    """
    certificates = CertsFolder(Path(folder))
    certificates.init("example authority", days=1)
    certificates.issue("warehouse", ["127.0.0.1"], days=1)  # the host by which it will be dialled
    certificates.issue("shop", [], days=1)
    certificates.issue("visitor", [], days=1)


class Refusals(logging.Handler):
    """Takes what the log says, and has the loop stop at it."""

    def __init__(self, loop: RunLoop) -> None:
        super().__init__()
        self.loop = loop
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.loop.stop()


def warehouse(folder: str) -> None:
    """The host that others connect to. A real one would listen at ("0.0.0.0", 7000)."""

    def answer(message: PortMessage) -> bytes:
        assert message.sender is not None, "it came over a link"
        article = (message.data or b"").decode()
        print(f"warehouse: {message.sender.names[0]} asks for {article}", flush=True)
        return str(STOCK[article]).encode()

    loop = RunLoop.current()
    refusals = Refusals(loop)
    logging.getLogger("portkit").addHandler(refusals)  # without a handler they go to stderr
    tls = TLSConfig.from_folder(folder, "warehouse", peer_names=("shop",))
    with SocketPort(("127.0.0.1", 0), answer, tls=tls) as port:
        loop.add_port(port)
        command = [sys.executable, __file__, folder, str(port.address)]
        with subprocess.Popen(command) as process:
            loop.run(timeout=20.0)
            process.wait(timeout=20.0)
    print("the log of the warehouse:", *refusals.lines)


def shop(folder: str, address: str) -> None:
    """The other host."""
    stock = connect_port(address, tls=TLSConfig.from_folder(folder, "shop"))
    for article in ("lamps", "chairs"):
        reply = stock.request(article.encode())
        print(f"shop: {(reply.data or b'').decode()} {article} are there", flush=True)

    # Somebody else on this host: of the same authority, but not expected.
    stranger = connect_port(address, tls=TLSConfig.from_folder(folder, "visitor"))
    try:
        stranger.request(b"lamps")
    except AuthenticationError as error:
        print("visitor:", str(error).partition(": ")[2], flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        shop(*sys.argv[1:])
    else:
        with tempfile.TemporaryDirectory() as certificates:
            make_certificates(certificates)
            warehouse(certificates)
