"""asyncio on a run loop: one thread has both, and sleeps once for the two."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import socket
import ssl
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import get_ident
from typing import Any, TypeVar

import pytest

from portkit import (
    COMMON_MODES,
    DEFAULT_MODE,
    Activity,
    DescriptorSource,
    InputSource,
    MachPort,
    MessagePort,
    Observer,
    PortMessage,
    RunLoop,
    RunResult,
)
from portkit.loops import new_event_loop
from tests.loops.helpers import output_of
from tests.ports.helpers import Background, on_other_thread
from tests.support import PATIENCE, LoopThread, Reports, keep_alive
from tests.transports.socket.pki import Pki, pki

__all__ = ["pki"]  # a fixture

pytestmark = pytest.mark.own_thread

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    async def bounded() -> T:
        return await asyncio.wait_for(main, PATIENCE)

    with asyncio.Runner(loop_factory=new_event_loop, debug=debug) as runner:
        return runner.run(bounded())


@contextmanager
def new_loop() -> Iterator[asyncio.SelectorEventLoop]:
    loop = new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


class TestTheRunLoopIsServed:
    def test_ports(self) -> None:
        async def main() -> list[bytes | None]:
            came = asyncio.Queue[bytes | None]()
            with MachPort(lambda message: came.put_nowait(message.data)) as port:
                RunLoop.current().add_port(port)
                sender = Background(lambda: port.send_many([b"1", b"2", b"3"]))
                seen = [await came.get() for _ in range(3)]
                sender.result()
                return seen

        assert run(main()) == [b"1", b"2", b"3"]

    def test_a_delegate_answers_from_a_task(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            tasks: list[asyncio.Task[None]] = []

            async def answer(message: PortMessage) -> None:
                await asyncio.sleep(0.001)
                message.reply(b"answer to " + (message.data or b""))

            def delegate(message: PortMessage) -> None:
                assert asyncio.get_running_loop() is loop
                message.defer()
                tasks.append(asyncio.create_task(answer(message)))

            def ask() -> list[bytes | None]:
                return [port.request(b"%d" % n, reply_timeout=PATIENCE).data for n in range(20)]

            with MachPort(delegate) as port:
                RunLoop.current().add_port(port)
                answers = await asyncio.to_thread(ask)
                assert answers == [b"answer to %d" % n for n in range(20)]
                await asyncio.gather(*tasks)

        run(main())

    def test_of_another_process_by_a_link_that_this_thread_reads(self) -> None:
        async def main() -> None:
            threads: set[int] = set()

            def delegate(message: PortMessage) -> bytes:
                threads.add(get_ident())
                return b"!"

            def ask() -> None:
                with MessagePort.remote("test.asyncio") as remote:
                    for _ in range(50):
                        assert remote.request(b"?", reply_timeout=PATIENCE).data == b"!"

            with MessagePort("test.asyncio", delegate) as port:
                RunLoop.current().add_port(port)
                await asyncio.to_thread(ask)
            assert threads == {get_ident()}

        run(main())

    def test_timers_calls_sources_and_descriptors(self) -> None:
        async def main() -> None:
            run_loop = RunLoop.current()
            came = asyncio.Queue[str]()
            run_loop.call_later(0.001, came.put_nowait, "timer")
            assert await came.get() == "timer"
            on_other_thread(lambda: run_loop.perform(came.put_nowait, "call"))()
            assert await came.get() == "call"
            source = InputSource(lambda source: came.put_nowait("source"))
            run_loop.add_source(source)
            on_other_thread(source.signal)()
            assert await came.get() == "source"
            source.invalidate()
            read, write = os.pipe()
            descriptor = DescriptorSource(read, lambda *_: came.put_nowait(str(os.read(read, 9))))
            run_loop.add_source(descriptor)
            os.write(write, b"x")
            assert await came.get() == "b'x'"
            descriptor.invalidate()
            os.close(read)
            os.close(write)

        run(main())

    def test_a_timer_moved_by_another_thread_while_asyncio_waits(self) -> None:
        async def main() -> None:
            fired = asyncio.Event()
            timer = RunLoop.current().call_later(1000, fired.set)

            def sooner() -> None:
                timer.next_fire_date = 0

            thread = Background(sooner)
            await fired.wait()
            thread.result()

        run(main())

    def test_callers_of_other_threads(self) -> None:
        async def main() -> None:
            run_loop = RunLoop.current()
            ident = await asyncio.to_thread(run_loop.perform_and_wait, get_ident, timeout=PATIENCE)
            assert ident == get_ident()
            future = await asyncio.to_thread(run_loop.executor().submit, get_ident)
            assert await asyncio.wrap_future(future) == get_ident()

        run(main())

    def test_calls_on_the_run_loop_of_another_thread(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with LoopThread() as other:
                executor = other.loop.executor()
                assert await loop.run_in_executor(executor, get_ident) == other.loop.ident
                with pytest.raises(ZeroDivisionError):
                    await loop.run_in_executor(executor, lambda: 1 / 0)

        run(main())

    def test_delegates_that_raise_are_reported(self, reports: Reports) -> None:
        async def main() -> None:
            seen = asyncio.Event()

            def delegate(message: PortMessage) -> None:
                seen.set()
                raise LookupError

            with MachPort(delegate) as port:
                RunLoop.current().add_port(port)
                port.send()
                await seen.wait()

        run(main())
        assert [type(error) for error in reports.take()] == [LookupError]


class TestAsyncioIsAsEver:
    def test_callbacks_and_their_order(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            seen: list[int] = []
            done = loop.create_future()
            loop.call_soon(seen.append, 1)
            loop.call_soon(seen.append, 2)
            loop.call_later(0.002, seen.append, 4)
            loop.call_later(0.001, seen.append, 3)
            loop.call_later(0.003, done.set_result, None)
            await done
            assert seen == [1, 2, 3, 4]

        run(main(), debug=True)

    def test_threads_wake_it(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            for n in range(20):
                future: asyncio.Future[int] = loop.create_future()
                thread = Background(lambda: loop.call_soon_threadsafe(future.set_result, n))  # noqa: B023
                assert await future == n
                thread.result()

        run(main())

    def test_streams(self) -> None:
        async def main() -> None:
            async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
                writer.close()

            async def talk(port: int) -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                data = os.urandom(300_000)
                writer.write(data)
                assert await reader.readexactly(len(data)) == data
                writer.close()
                await writer.wait_closed()

            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            async with server:
                port = server.sockets[0].getsockname()[1]
                await asyncio.gather(*[talk(port) for _ in range(5)])

        run(main())

    def test_tls(self, pki: Pki) -> None:
        async def main() -> None:
            async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(await reader.readline())
                await writer.drain()
                writer.close()
                await writer.wait_closed()

            files = pki.config("server")
            assert files.certificate is not None
            serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            serving.load_cert_chain(files.certificate, files.key)
            trusting = ssl.create_default_context(cafile=str(files.ca))
            server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=serving)
            async with server:
                port = server.sockets[0].getsockname()[1]
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
                writer.write(b"hello\n")
                assert await reader.readline() == b"hello\n"
                writer.close()
                await writer.wait_closed()

        run(main())

    def test_descriptors_that_come_and_go(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            near, far = socket.socketpair()
            with near, far:
                near.setblocking(False)
                far.setblocking(False)
                waiting = asyncio.ensure_future(loop.sock_recv(near, 10))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                await loop.sock_sendall(far, b"!")
                assert await loop.sock_recv(near, 10) == b"!"

        run(main())

    def test_subprocesses(self) -> None:
        async def main() -> None:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "print(input()[::-1])", stdin=-1, stdout=-1
            )
            output, _ = await process.communicate(b"abc\n")
            assert output == b"cba\n"
            assert process.returncode == 0

        run(main())

    def test_exceptions_and_cancellation(self) -> None:
        async def main() -> None:
            async def fail() -> None:
                raise LookupError

            with pytest.raises(LookupError):
                await asyncio.create_task(fail())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.001)

        run(main())

    def test_a_loop_runs_several_times_and_closes_all(self) -> None:
        loop = new_event_loop()
        for n in range(3):
            assert loop.run_until_complete(asyncio.sleep(0.001, n)) == n
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_until_complete(nested(loop))
        assert RunLoop.current().current_mode is None
        loop.close()
        with pytest.raises(RuntimeError, match="closed"):
            loop.run_forever()

    def test_without_run_loop_items_it_still_sleeps(self) -> None:
        """The run loop's mode is empty, which ends a run of its own, but not asyncio's."""
        gc.collect()
        assert run(asyncio.sleep(0.01, "slept")) == "slept"


async def nested(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()


class TestWaiting:
    def test_nothing_is_polled(self) -> None:
        async def main() -> None:
            run_loop = RunLoop.current()
            mode = run_loop._table.ensure(DEFAULT_MODE)
            future: Future[None] = Future()
            run_loop.call_later(0.3, future.set_result, None)
            await asyncio.sleep(0)
            before = mode.rests
            await asyncio.wrap_future(future)
            assert mode.rests - before < 10

        run(main())

    def test_the_loop_is_seen_waiting(self) -> None:
        async def main() -> None:
            run_loop = RunLoop.current()
            woken = asyncio.Event()

            def wake() -> None:
                while not run_loop.is_waiting:
                    pass
                run_loop.perform(woken.set)

            thread = Background(wake)
            await woken.wait()
            thread.result()

        run(main())

    def test_observers_see_one_run(self) -> None:
        run_loop = RunLoop.current()
        seen: list[Activity] = []
        observer = Observer(lambda observer, activity: seen.append(activity))
        run_loop.add_observer(observer)
        run(asyncio.sleep(0.01))
        assert seen.count(Activity.ENTRY) == seen.count(Activity.EXIT)
        assert seen[0] is Activity.ENTRY
        assert seen[-1] is Activity.EXIT
        assert seen.count(Activity.BEFORE_WAITING) == seen.count(Activity.AFTER_WAITING) > 0
        assert seen.count(Activity.ENTRY) <= 3  # the Runner runs the loop again to close it
        observer.invalidate()

    def test_messages_do_not_keep_asyncio_from_its_turn(self) -> None:
        async def main() -> None:
            count = 0

            def delegate(message: PortMessage) -> None:
                nonlocal count
                count += 1
                if not over:
                    port.send()

            over = False
            with MachPort(delegate) as port:
                RunLoop.current().add_port(port)
                port.send()
                for _ in range(20):
                    await asyncio.sleep(0)
                await asyncio.sleep(0.001)
                over = True
            assert count > 5

        run(main())


class TestNesting:
    def test_asyncio_pauses_during_a_run_inside_a_callback(self) -> None:
        async def main() -> None:
            run_loop = RunLoop.current()
            loop = asyncio.get_running_loop()
            seen: list[str] = []
            source = keep_alive(run_loop)
            loop.call_soon(seen.append, "asyncio")
            # Its descriptor is ready all the time, for which the nested run must not spin.
            on_other_thread(lambda: loop.call_soon_threadsafe(seen.append, "asyncio"))()
            run_loop.call_later(0.05, run_loop.stop)
            mode = run_loop._table.ensure(DEFAULT_MODE)
            rests = mode.rests
            assert run_loop.run_in_mode(DEFAULT_MODE, PATIENCE) is RunResult.STOPPED
            assert mode.rests - rests < 10
            assert seen == []
            source.invalidate()
            await asyncio.sleep(0.001)
            assert seen == ["asyncio", "asyncio"]

        run(main())

    def test_inside_a_delegate(self) -> None:
        async def main() -> None:
            run_loop = RunLoop.current()
            finished = asyncio.Event()
            seen: list[bytes | None] = []

            def delegate(message: PortMessage) -> None:
                seen.append(message.data)
                if message.data == b"outer":
                    port.send(b"inner")
                    run_loop.accept_input(DEFAULT_MODE, PATIENCE)
                    seen.append(b"end of outer")
                    finished.set()

            with MachPort(delegate) as port:
                run_loop.add_port(port)
                port.send(b"outer")
                await finished.wait()
                assert seen == [b"outer", b"inner", b"end of outer"]

        run(main())

    def test_a_request_in_a_coroutine(self) -> None:
        """It blocks the thread, as it always does, and neither of the two loops minds."""

        async def main() -> None:
            with LoopThread() as other, MachPort(lambda message: b"!") as port:
                other.call(other.loop.add_port, port)
                assert port.request(reply_timeout=PATIENCE).data == b"!"
                await asyncio.sleep(0)

        run(main())

    def test_asyncio_inside_the_host_of_a_guest_run(self) -> None:
        """A slot of Qt's that runs asyncio: the guest run pauses, and looks what is left for it."""
        run_loop = RunLoop.current()
        seen: list[bytes | None] = []
        with MachPort(lambda message: seen.append(message.data)) as port:
            run_loop.add_port(port)

            async def main() -> None:
                port.send(b"served by asyncio")
                while not seen:  # noqa: ASYNC110 - the delegate knows of no event loop
                    await asyncio.sleep(0.001)
                asyncio.get_running_loop().call_soon(port.send, b"left")
                run_loop.perform(run_loop.stop)
                await asyncio.Event().wait()

            with run_loop.start_guest_run() as guest:
                guest.process()
                with new_loop() as loop:
                    task = loop.create_task(main())
                    loop.run_forever()  # until that stop, which is not for the guest
                    task.cancel()
                    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
                assert guest.is_valid
                run_loop.perform(seen.append, b"called")
                assert select.select([guest], [], [], PATIENCE)[0]
                while select.select([guest], [], [], 0)[0]:
                    guest.process()
            assert sorted(map(bytes, filter(None, seen))) == [
                b"called", b"left", b"served by asyncio",
            ]  # fmt: skip

    def test_asyncio_inside_a_run_loops_callback(self) -> None:
        run_loop = RunLoop.current()
        seen: list[str | None] = []

        async def main() -> None:
            await asyncio.sleep(0.001)
            seen.append(run_loop.current_mode)

        run_loop.perform(lambda: run(main()))
        assert run_loop.run(PATIENCE) is RunResult.FINISHED
        assert seen == [DEFAULT_MODE]


class TestEnding:
    @pytest.mark.parametrize("how", ["inside", "another thread"])
    def test_stop_ends_run_forever(self, how: str) -> None:
        run_loop = RunLoop.current()
        loop = new_event_loop()
        if how == "inside":
            loop.call_soon(run_loop.stop)
            loop.run_forever()
        else:
            stopper = Background(lambda: run_loop.perform(run_loop.stop))
            loop.run_forever()
            stopper.result()
        assert loop.run_until_complete(asyncio.sleep(0, "goes on")) == "goes on"
        loop.close()

    def test_an_interrupt_in_a_delegate_leaves(self) -> None:
        seen: list[bytes | None] = []

        async def main(port: MachPort) -> None:
            RunLoop.current().add_port(port)
            port.send_many([b"1", b"2"])
            await asyncio.Event().wait()

        def delegate(message: PortMessage) -> None:
            seen.append(message.data)
            if message.data == b"1":
                raise KeyboardInterrupt

        with MachPort(delegate) as port:
            with pytest.raises(KeyboardInterrupt):
                run(main(port))
            assert RunLoop.current().current_mode is None
            RunLoop.current().run_in_mode(DEFAULT_MODE, 0)
            assert seen == [b"1", b"2"]

    def test_closed_with_things_under_way(self) -> None:
        async def main() -> None:
            asyncio.get_running_loop().call_later(1000, int)
            RunLoop.current().call_later(1000, int)
            RunLoop.current().perform(int, modes=COMMON_MODES)

        run(main())
        RunLoop.current().cancel_calls()


PRELUDE = "from portkit.loops import new_event_loop"


class TestSignals:
    """On the main thread, so in processes of their own."""

    def test_ctrl_c_cancels_the_main_task(self) -> None:
        output = output_of(
            PRELUDE,
            """
            async def main():
                RunLoop.current().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    print("cancelled")
                    raise

            try:
                with asyncio.Runner(loop_factory=new_event_loop) as runner:
                    runner.run(main())
            except KeyboardInterrupt:
                print("interrupted")
            """,
        )
        assert output == "cancelled\ninterrupted\n"

    def test_handlers_of_asyncio(self) -> None:
        output = output_of(
            PRELUDE,
            """
            async def main():
                came = asyncio.Event()
                loop = asyncio.get_running_loop()
                for number in (signal.SIGUSR1, signal.SIGTERM):
                    loop.add_signal_handler(number, came.set)
                    RunLoop.current().call_later(0.05, os.kill, os.getpid(), number)
                    await came.wait()
                    came.clear()
                loop.remove_signal_handler(signal.SIGUSR1)
                print("came")

            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(main())
            print(signal.set_wakeup_fd(-1))
            """,
        )
        assert output == "came\n-1\n"

    def test_handlers_of_python_run_while_both_loops_sleep(self) -> None:
        def strike(process: subprocess.Popen[str]) -> None:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(10)  # SIGUSR1

        output = output_of(
            PRELUDE,
            """
            async def main():
                came = asyncio.Event()
                run_loop = RunLoop.current()
                signal.signal(signal.SIGUSR1, lambda *_: run_loop.perform(came.set))
                print("ready", flush=True)
                await came.wait()
                print("came")

            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(main())
            print(signal.set_wakeup_fd(-1))
            """,
            meanwhile=strike,
        )
        assert output == "came\n-1\n"
