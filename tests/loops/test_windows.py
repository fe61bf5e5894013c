"""A run loop in the event loops of Qt and Tk: one table of behaviour for both."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest

from portkit.loops import QtHost, qt
from tests.loops.helpers import interrupt_when_ready, output_of

PRELUDES = {
    "qt": """
        from PySide6.QtCore import QCoreApplication, QEventLoop, QTimer
        from portkit.loops import QtHost

        app = QCoreApplication([])
        host, run_windows, quit_windows = QtHost, app.exec, app.quit

        def later(seconds, fn):
            QTimer.singleShot(int(seconds * 1000), fn)

        class Dialogue:
            def __init__(self):
                self._loop = QEventLoop()
                self.open, self.close = self._loop.exec, self._loop.quit
        """,
    "tk": """
        import tkinter
        from portkit.loops import TkHost

        root = tkinter.Tk()
        run_windows, quit_windows = root.mainloop, root.quit

        def host(*mode):
            return TkHost(root, *mode)

        def later(seconds, fn):
            root.after(int(seconds * 1000), fn)

        class Dialogue:
            def __init__(self):
                self._closed = tkinter.BooleanVar(root)

            def open(self):
                root.wait_variable(self._closed)

            def close(self):
                self._closed.set(True)
        """,
}
COMMON = """
        loop = RunLoop.current()
        """


class Programs:
    """Programs with one of the toolkits."""

    def __init__(self, toolkit: str, env: dict[str, str]) -> None:
        self._prelude = PRELUDES[toolkit]
        self._env = env

    def output(self, code: str, **options: Any) -> str:
        return output_of(self._prelude, COMMON, code, env=self._env, **options)


@pytest.fixture
def programs(display: dict[str, str], toolkit: str) -> Programs:
    return Programs(toolkit, display)


def test_all_that_a_run_loop_holds(programs: Programs) -> None:
    output = programs.output(
        """
        def delegate(message):
            print("message", message.data)
            loop.perform(print, "call")
            return b"answer"

        answers = []

        def signalled(source):
            print("source", answers)
            source.invalidate()
            loop.call_later(0.01, lambda: (print("timer"), os.write(write, b"x")))

        def readable(source, ready):
            print("descriptor", os.read(read, 1))
            source.invalidate()
            quit_windows()

        def body():
            answers.append(port.request(b"question").data)
            source.signal()

        read, write = os.pipe()
        source = InputSource(signalled)
        loop.add_source(source)
        loop.add_source(DescriptorSource(read, readable))
        with MachPort(delegate) as port, host():
            loop.add_port(port)
            thread = Thread(target=body)
            later(0, thread.start)
            run_windows()
            thread.join()
        """
    )
    assert output.splitlines() == [
        "message b'question'", "call", "source [b'answer']", "timer", "descriptor b'x'",
    ]  # fmt: skip


def test_messages_from_another_process(programs: Programs) -> None:
    output = programs.output(
        """
        import subprocess

        count = 0

        def delegate(message):
            global count
            count += 1
            if count == 20:
                quit_windows()
            return b"!"

        name = f"test.windows-{os.getpid()}"
        code = f"import portkit\\nwith portkit.MessagePort.remote('{name}') as port:\\n"
        code += "    for _ in range(20): port.request(b'?', reply_timeout=30)"
        with MessagePort(name, delegate) as port, host():
            loop.add_port(port)
            child = subprocess.Popen([sys.executable, "-c", code])
            run_windows()
            print(count)
        child.wait()
        """
    )
    assert output == "20\n"


def test_a_timer_set_and_moved_while_nothing_happens(programs: Programs) -> None:
    output = programs.output(
        """
        def body():
            timer.next_fire_date = 0
            loop.call_later(0.01, quit_windows)

        timer = Timer(1000, lambda timer: print("moved"))
        with host():
            loop.add_timer(timer)
            thread = Thread(target=body)
            later(0.05, thread.start)
            run_windows()
            thread.join()
        """
    )
    assert output == "moved\n"


def test_nothing_is_polled(programs: Programs) -> None:
    output = programs.output(
        """
        passes = []
        observer = Observer(lambda *_: passes.append(1), Activity.BEFORE_TIMERS)
        loop.add_observer(observer)
        far = loop.call_later(1000, int)
        with host():
            later(0.3, quit_windows)
            run_windows()
        print(0 < len(passes) < 10)
        far.invalidate()
        """
    )
    assert output == "True\n"


def test_a_dialogue_opened_by_a_delegate(programs: Programs) -> None:
    output = programs.output(
        """
        def delegate(message):
            print(message.data)
            if message.data == b"open":
                loop.call_later(0.01, port.send, b"while it is open")
                dialogue.open()
                print("closed")
                quit_windows()
            else:
                dialogue.close()

        dialogue = Dialogue()
        with MachPort(delegate) as port, host():
            loop.add_port(port)
            later(0, lambda: port.send(b"open"))
            run_windows()
        """
    )
    assert output.splitlines() == ["b'open'", "b'while it is open'", "closed"]


def test_a_run_of_the_run_loop_inside(programs: Programs) -> None:
    output = programs.output(
        """
        def clicked():
            loop.call_later(0.01, loop.stop)
            print(loop.run(5))
            loop.perform(quit_windows)

        with host():
            later(0, clicked)
            run_windows()
        """
    )
    assert output == "2\n"


def test_stop_quits(programs: Programs) -> None:
    output = programs.output(
        """
        with host():
            thread = Thread(target=lambda: loop.perform(loop.stop))
            later(0, thread.start)
            run_windows()
            thread.join()
        print("stopped")
        with host():
            later(0, lambda: loop.perform(quit_windows))
            run_windows()
        print("and served again")
        """
    )
    assert output == "stopped\nand served again\n"


def test_a_delegate_that_raises(programs: Programs) -> None:
    output = programs.output(
        """
        def delegate(message):
            if message.data == b"2":
                quit_windows()
            raise LookupError(message.data)

        loop.exception_handler = lambda loop, context: print(repr(context["exception"]))
        with MachPort(delegate) as port, host():
            loop.add_port(port)
            port.send_many([b"1", b"2"])
            run_windows()
        """
    )
    assert output == "LookupError(b'1')\nLookupError(b'2')\n"


def test_an_interrupt_in_a_delegate_comes_out(programs: Programs) -> None:
    output = programs.output(
        """
        def delegate(message):
            raise KeyboardInterrupt

        with MachPort(delegate) as port:
            loop.add_port(port)
            port.send()
            try:
                with host():
                    run_windows()
            except KeyboardInterrupt:
                print("interrupted")
        """
    )
    assert output == "interrupted\n"


def test_control_c_while_nothing_happens(programs: Programs) -> None:
    output = programs.output(
        """
        try:
            with host():
                later(0.05, lambda: print("ready", flush=True))
                run_windows()
        except KeyboardInterrupt:
            print("interrupted")
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        print(signal.set_wakeup_fd(-1))
        """,
        meanwhile=interrupt_when_ready,
    )
    assert output == "interrupted\nTrue\n-1\n"


def test_another_mode_and_one_host_for_each(programs: Programs) -> None:
    output = programs.output(
        """
        loop.perform(print, "default", modes=DEFAULT_MODE)
        with host("windows"):
            loop.perform(lambda: (print(loop.current_mode), quit_windows()), modes="windows")
            try:
                host("windows")
            except PortError as error:
                print(str(error).partition(":")[0])
            run_windows()
        loop.run(0)
        """
    )
    assert output == "mode 'windows' has a guest run already\nwindows\ndefault\n"


@pytest.mark.parametrize("toolkit", ["tk"], indirect=True)
@pytest.mark.parametrize("where", ["later(0.05, root.destroy)", "loop.perform(root.destroy)"])
def test_a_root_that_is_destroyed(programs: Programs, where: str) -> None:
    output = programs.output(
        f"""
        with host():
            loop.call_later(1000, int)
            {where}
            run_windows()
        loop.cancel_calls()
        print("over")
        """
    )
    assert output == "over\n"


@pytest.mark.parametrize("toolkit", ["qt"], indirect=True)
def test_qt_needs_its_application_first(display: dict[str, str], toolkit: str) -> None:
    output = output_of(
        """
        from portkit.loops import QtHost
        try:
            QtHost()
        except RuntimeError as error:
            print(str(error).partition(":")[0])
        """,
        env=display,
    )
    assert output == "make the QApplication first\n"


class TestBindings:
    def test_without_one_the_error_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def nothing(name: str) -> None:
            raise ModuleNotFoundError(name)

        monkeypatch.setattr(importlib, "import_module", nothing)
        with pytest.raises(ImportError, match=r'pip install "portkit\[qt\]"'):
            QtHost()

    def test_the_one_that_the_program_has_imported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(qt, "sys", SimpleNamespace(modules={"PyQt6": None}))
        monkeypatch.setattr(importlib, "import_module", lambda name: name)
        assert qt._core() == "PyQt6.QtCore"
