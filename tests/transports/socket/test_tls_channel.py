"""TLS over sockets that move what they like: every byte arrives, in order, whatever comes."""

from __future__ import annotations

import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, cycle, repeat
from random import Random
from threading import get_ident

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit import SocketPort
from portkit.errors import AuthenticationError
from portkit.link import incoming
from portkit_transports.socket.tls import TLSConfig
from portkit_transports.socket.tls_channel import NotTLSError, TLSChannel
from tests.ports.helpers import Background, handling
from tests.support import PATIENCE, run_on_thread
from tests.transports.socket.connections import (
    RawTLS,
    addressed,
    await_ready,
    dialled,
    meddle,
    reset,
    tcp_pair,
    tls_pair,
)
from tests.transports.socket.pki import Pki


@pytest.fixture(scope="module")
def config(pki: Pki) -> TLSConfig:
    return pki.config()


def read(channel: TLSChannel, size: int = 1 << 16) -> bytes:
    """What a read gives; waits until there is something."""
    buffer = bytearray(size)
    while True:
        try:
            count, descriptors = channel.read(memoryview(buffer))
        except BlockingIOError:
            await_ready(channel)
            continue
        assert not descriptors
        return bytes(buffer[:count])


def read_exactly(channel: TLSChannel, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = read(channel, size - len(data))
        assert more, f"the end came after {len(data)} bytes"
        data += more
    return data


def try_read(channel: TLSChannel, size: int) -> bytes:
    buffer = bytearray(size)
    try:
        return bytes(buffer[: channel.read(memoryview(buffer))[0]])
    except BlockingIOError:
        return b""


def try_write(channel: TLSChannel, data: bytes | memoryview) -> int:
    try:
        return channel.write(data, ())
    except BlockingIOError:
        return 0


def write_all(channel: TLSChannel, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[channel.write(view, ()) :]
        except BlockingIOError:
            await_ready(channel, select.POLLOUT)


class Direction:
    """Bytes on their way from one channel to the other, written in pieces of given sizes."""

    def __init__(
        self, writer: TLSChannel, reader: TLSChannel, sizes: list[int], buffer: int
    ) -> None:
        self._writer, self._reader = writer, reader
        self.data = Random(sum(sizes)).randbytes(sum(sizes))
        self._pieces: list[bytes] = []
        position = 0
        for size in sizes:
            self._pieces.append(self.data[position : position + size])
            position += size
        self._buffer = buffer
        self.came = b""

    def step(self) -> None:
        """Write once, read once."""
        if self._pieces:
            written = try_write(self._writer, self._pieces[0])
            assert 0 <= written <= len(self._pieces[0])
            self._pieces[0] = self._pieces[0][written:]
            if not self._pieces[0]:
                self._pieces.pop(0)
        self.came += try_read(self._reader, self._buffer)

    @property
    def is_over(self) -> bool:
        return not self._pieces and len(self.came) >= len(self.data)


SIZES = st.lists(st.one_of(st.integers(1, 40), st.integers(1, 70_000)), max_size=6)
TURNS = st.lists(st.one_of(st.integers(0, 9), st.integers(0, 5000)), max_size=20)


@given(
    st.tuples(SIZES, SIZES),
    st.lists(TURNS, min_size=2, max_size=2),
    st.sampled_from([1, 7, 100, 1 << 17]),
)
@settings(max_examples=25)
def test_every_byte_arrives_in_order_whatever_the_socket_moves(
    config: TLSConfig, sizes: tuple[list[int], list[int]], moves: list[list[int]], buffer: int
) -> None:
    sends, receives = moves
    with tls_pair(config) as (left, right):
        for channel in (left, right):
            meddle(
                channel,
                sends=chain(sends, repeat(1 << 20)),
                receives=chain(receives, repeat(1 << 20)),
            )
        ways = [Direction(left, right, sizes[0], buffer), Direction(right, left, sizes[1], buffer)]
        while not all(way.is_over for way in ways):
            for way in ways:
                way.step()
        for way in ways:
            assert way.came == way.data
        assert try_read(left, 9) == try_read(right, 9) == b""


@pytest.mark.parametrize("most", [1 << 20, 700])
def test_both_ways_at_once_from_two_threads_of_each_side(config: TLSConfig, most: int) -> None:
    # No more: with buffers as small as these the kernel itself may stall, 0.2 s for each 3 KB.
    size = 200_000
    there, back = Random(1).randbytes(size), Random(2).randbytes(size)

    def write(channel: TLSChannel, data: bytes, random: Random) -> None:
        position = 0
        while position < len(data):
            piece = data[position : position + random.choice([1, 9, 300, 20_000, 100_000])]
            write_all(channel, piece)
            position += len(piece)

    with tls_pair(config, 4096) as (left, right):
        for channel in (left, right):
            meddle(channel, sends=cycle([most, most // 7]), receives=cycle([most, most // 3]))
        writers = [
            Background(lambda: write(left, there, Random(3))),
            Background(lambda: write(right, back, Random(4))),
        ]
        reader = Background(lambda: read_exactly(left, size))
        assert read_exactly(right, size) == there
        assert reader.result() == back
        for writer in writers:
            writer.result()


# What is written and does not go out.


def test_while_something_waits_for_the_socket_the_last_byte_counts_as_unwritten(
    config: TLSConfig,
) -> None:
    with tls_pair(config) as (left, right):
        meddle(left, sends=chain([10], repeat(0, 3), repeat(1 << 20)))
        assert left.write(b"abcdef", ()) == 5
        for _ in range(2):
            with pytest.raises(BlockingIOError):
                left.write(b"f", ())
        assert left.write(b"fgh", ()) == 3
        assert read_exactly(right, 8) == b"abcdefgh"


def test_a_single_byte_that_does_not_go_out_is_not_written_twice(config: TLSConfig) -> None:
    with tls_pair(config) as (left, right):
        meddle(left, sends=chain([0, 0], repeat(1 << 20)))
        for _ in range(2):
            with pytest.raises(BlockingIOError):
                left.write(b"a", ())
        assert left.write(b"a", ()) == 1
        assert left.write(b"b", ()) == 1
        assert read_exactly(right, 2) == b"ab"


def test_a_peer_that_does_not_read_leaves_little_here(config: TLSConfig) -> None:
    """However much is to be written: one call encrypts a bounded part of it."""
    data = bytes(10_000_000)
    with tls_pair(config, 4096) as (left, _):
        view = memoryview(data)
        while written := try_write(left, view):
            view = view[written:]
        assert len(left._encrypted) < 1 << 17


# Records that come in pieces, and many at once.


@contextmanager
def raw_pair(config: TLSConfig) -> Iterator[tuple[RawTLS, TLSChannel]]:
    """A peer that sends what records a test likes, and the channel that it sends them to."""
    near, far = tcp_pair()
    channel = TLSChannel(far, config.server().context, server=True)
    try:
        with near:
            raw = RawTLS(near, config.client().context)
            accepted = Background(lambda: advance_to_the_end(channel))
            raw.shake()
            accepted.result()
            yield raw, channel
    finally:
        channel.shutdown()
        channel.close_in_child()


def advance_to_the_end(channel: TLSChannel) -> None:
    while not channel.advance():
        await_ready(channel)


@pytest.mark.parametrize("cut", range(1, 50, 7))
def test_records_may_be_cut_anywhere(config: TLSConfig, cut: int) -> None:
    with raw_pair(config) as (raw, channel):
        both = raw.records(b"one") + raw.records(b"two")
        assert cut < len(both)
        raw.socket.sendall(both[:cut])
        await_ready(channel)
        first = try_read(channel, 100)
        assert first in {b"", b"one"}
        raw.socket.sendall(both[cut:])
        assert first + read_exactly(channel, 6 - len(first)) == b"onetwo"


def test_what_a_full_buffer_leaves_is_told_of(config: TLSConfig) -> None:
    with raw_pair(config) as (raw, channel):
        raw.socket.sendall(raw.records(b"one") + raw.records(b"two") + raw.records(b"three"))
        assert read(channel, 2) == b"on"
        assert channel.has_unread
        assert read(channel, 5) == b"etwot"
        assert read(channel, 100) == b"hree"
        assert not channel.has_unread


# Endings.


def end_of(channel: TLSChannel) -> bytes:
    """All that can be read before the end; raises where that is not as it should be."""
    data = bytearray()
    read_into(data, channel)
    return bytes(data)


def read_into(data: bytearray, channel: TLSChannel) -> None:
    while more := read(channel):
        data += more


def test_the_goodbye_of_tls_is_the_end_after_all_that_came_before(config: TLSConfig) -> None:
    with raw_pair(config) as (raw, channel):
        raw.socket.sendall(raw.records(b"last words") + raw.goodbye())
        assert end_of(channel) == b"last words"
        assert read(channel) == b""


@pytest.mark.parametrize("garbage", [b"!", bytes(5), b"\x17\x03\x03\x00\x10" + bytes(16)])
def test_nothing_is_read_after_the_goodbye(config: TLSConfig, garbage: bytes) -> None:
    with raw_pair(config) as (raw, channel):
        raw.socket.sendall(raw.records(b"last words") + raw.goodbye() + garbage)
        assert run_on_thread(lambda: end_of(channel)) == b"last words"


def test_what_came_before_the_goodbye_is_read_by_a_side_that_has_said_its_own(
    config: TLSConfig,
) -> None:
    with raw_pair(config) as (raw, channel):
        assert channel.finish()
        raw.socket.sendall(raw.records(b"last words") + raw.goodbye())
        assert end_of(channel) == b"last words"


def test_an_end_without_a_goodbye_is_no_proper_end(config: TLSConfig) -> None:
    """Else somebody in between could cut a conversation short, unseen."""
    with raw_pair(config) as (raw, channel):
        raw.socket.sendall(raw.records(b"more fol"))
        raw.socket.shutdown(socket.SHUT_WR)
        assert read(channel) == b"more fol"
        with pytest.raises(ConnectionResetError, match="without the goodbye of TLS"):
            read(channel)


def test_an_end_in_the_midst_of_a_record_is_none_either(config: TLSConfig) -> None:
    with raw_pair(config) as (raw, channel):
        raw.socket.sendall(raw.records(b"whole") + raw.records(b"half")[:-1])
        raw.socket.shutdown(socket.SHUT_WR)
        assert read(channel) == b"whole"
        with pytest.raises(ConnectionResetError, match="without the goodbye of TLS"):
            read(channel)


def test_the_end_of_a_channel_has_a_goodbye(config: TLSConfig) -> None:
    with tls_pair(config) as (left, right):
        write_all(left, b"bye")
        left.shutdown()
        assert end_of(right) == b"bye"


def test_a_reset_connection_is_lost(config: TLSConfig) -> None:
    with raw_pair(config) as (raw, channel):
        reset(raw.socket)
        with pytest.raises(ConnectionResetError):
            read(channel)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            channel.write(b"in vain", ())


MEDDLED: dict[str, Callable[[bytes], bytes]] = {
    "changed": lambda record: record[:-1] + bytes([record[-1] ^ 1]),
    "repeated": lambda record: record + record,
    "no TLS": lambda record: b"GET / HTTP/1.1\r\n\r\n",
    "too long": lambda record: b"\x17\x03\x03\xff\xff" + bytes(20),
    "an alert in the clear": lambda record: b"\x15\x03\x03\x00\x02\x02\x28",
}


@pytest.mark.parametrize("change", MEDDLED.values(), ids=list(MEDDLED))
def test_what_somebody_put_in_between_is_no_data(
    config: TLSConfig, change: Callable[[bytes], bytes]
) -> None:
    with raw_pair(config) as (raw, channel):
        raw.socket.sendall(raw.records(b"before") + change(raw.records(b"!")))
        data = bytearray()
        with pytest.raises((ConnectionResetError, AuthenticationError), match=r"TLS|refuses"):
            read_into(data, channel)
        assert bytes(data) in {b"before", b"before!"}
        assert not channel.has_unread


@pytest.mark.parametrize("beginning", [b"GET / HTTP/1.1\r\n", b"\x80\x00\x00", b"\x00"])
def test_a_peer_that_does_not_speak_tls_is_told_apart(config: TLSConfig, beginning: bytes) -> None:
    near, far = tcp_pair()
    channel = TLSChannel(far, config.server().context, server=True)
    near.sendall(beginning)
    with pytest.raises(NotTLSError, match="give tls= to both, or to none") as caught:
        advance_to_the_end(channel)
    assert caught.value.beginning == beginning
    channel.shutdown()
    channel.close_in_child()
    near.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to talk to")
def test_keys_may_be_renewed_while_data_flows(config: TLSConfig) -> None:
    """By 'K', OpenSSL's client renews its keys, and asks for the same here."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.getsockname()[1]
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{number}"]
        command += ["-CAfile", f"{config.ca}"]
        command += ["-cert", f"{config.certificate}", "-key", f"{config.key}"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as peer:
            assert peer.stdin is not None
            assert peer.stdout is not None
            listening.settimeout(PATIENCE)
            channel = TLSChannel(listening.accept()[0], config.server().context, server=True)
            advance_to_the_end(channel)
            for round_number in range(3):
                peer.stdin.write(b"K\n")
                peer.stdin.flush()
                await_ready(channel)
                assert try_read(channel, 100) == b""
                peer.stdin.write(b"ping %d\n" % round_number)
                peer.stdin.flush()
                assert read_exactly(channel, 7) == b"ping %d\n" % round_number
                write_all(channel, b"pong %d\n" % round_number)
            came = b""
            while b"pong 2" not in came:
                came += peer.stdout.readline()
            channel.shutdown()
            channel.close_in_child()
            peer.kill()
    assert [came.count(b"pong %d" % number) for number in range(3)] == [1, 1, 1]


# With a link on top.


def test_a_burst_larger_than_one_turn_of_reading_needs_no_more_traffic(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is in TLS's memory at once, where the descriptor does not tell of it."""
    monkeypatch.setattr(incoming, "_scratches", [])
    monkeypatch.setattr(incoming, "_SCRATCH_SIZE", 256)
    both = pki.config()
    with SocketPort(tls=both) as port, dialled(port, both) as remote:
        remote.send_many([b"%04d" % number for number in range(1000)])
        came = [port.receive(PATIENCE).data for _ in range(1000)]
    assert came == [b"%04d" % number for number in range(1000)]


def test_a_signal_handler_that_sends_while_its_thread_writes_keeps_records_whole(
    pki: Pki,
) -> None:
    both = pki.config()
    with SocketPort(tls=both) as port, dialled(port, both) as remote:
        channel = addressed(remote).link.channel
        assert isinstance(channel, TLSChannel)
        handled = 0
        this_thread = get_ident()

        def send_more() -> None:
            nonlocal handled
            if handled < 50:
                handled += 1
                remote.send(b"handler %d" % handled)

        def interrupt() -> None:
            if handled < 50 and get_ident() == this_thread:
                signal.raise_signal(signal.SIGUSR1)

        with handling(signal.SIGUSR1, send_more):
            meddled = meddle(channel, before_send=interrupt)
            for number in range(50):
                remote.send(b"program %d" % number + bytes(number * 500))
            meddled.before_send = lambda: None
        came = [(port.receive(PATIENCE).data or b"").rstrip(b"\0") for _ in range(50 + handled)]
    assert handled
    assert [one for one in came if one.startswith(b"p")] == [b"program %d" % n for n in range(50)]
    assert {one for one in came if one.startswith(b"h")} == {
        b"handler %d" % number for number in range(1, handled + 1)
    }
