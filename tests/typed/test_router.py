"""A router: which handler gets what, what is answered, and what is refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from portkit import InvalidPayloadError, MachPort, PortError, PortMessage, ReplyDroppedError
from portkit.typed import Payload, Router
from tests.support import PATIENCE, LoopThread, Reports, eventually
from tests.transports.test_behaviour import World
from tests.typed.models import Anything, Job, Login, Picture, Result, reported


@pytest.fixture
def router() -> Router:
    """One that knows jobs, and messages of number 100."""
    router = Router()

    @router.on(Job)
    def run(job: Job) -> Result:
        return Result(path=job.path, size=job.retries)

    @router.on(msgid=100)
    def raw(message: PortMessage) -> bytes:
        return b"raw " + (message.data or b"")

    return router


class TestRegistering:
    def test_functions_stay_what_they_are(self, router: Router) -> None:
        @router.on(Picture)
        def look(picture: Picture) -> str:
            return picture.name

        assert look(Picture(name="a")) == "a"
        assert sorted(router.routes) == [7, 9, 100]
        assert router.routes[9].handler is look
        assert router.routes[9].answer is str
        assert repr(router) == "<Router 7: Job, 9: Picture, 100: messages>"
        assert repr(Router()) == "<Router without handlers>"

    def test_two_classes_for_one_number(self, router: Router) -> None:
        class Task(Payload, msgid=7):
            pass

        with pytest.raises(ValueError, match="message 7 is ") as caught:
            router.on(Task)(lambda task: None)
        assert "models.Job, which " in str(caught.value)
        assert "Task, needs another number: give each class a msgid= of its own" in str(
            caught.value
        )

    def test_classes_whose_number_was_forgotten(self) -> None:
        class One(Payload):
            pass

        class Two(Payload):
            pass

        router = Router()
        router.on(One)(lambda one: None)
        with pytest.raises(ValueError, match=r"message 0 is .*One, which .*Two, needs another"):
            router.on(Two)(lambda two: None)

    def test_one_number_twice(self, router: Router) -> None:
        with pytest.raises(ValueError, match="message 100 is a message without a type"):
            router.on(msgid=100)(lambda message: None)
        with pytest.raises(ValueError, match="message 7 is "):
            router.on(msgid=7)(lambda message: None)

    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            ({}, TypeError, "give a Payload class, or msgid="),
            ({"payload": Job, "msgid": 7}, TypeError, "give a Payload class, or msgid="),
            ({"payload": 7}, TypeError, r"given by name: @router\.on\(msgid=7\)"),
            ({"payload": Job(path="/a")}, TypeError, "is no Payload class"),
            ({"payload": int}, TypeError, "is no Payload class"),
            ({"payload": print}, TypeError, "is no Payload class"),
            ({"msgid": "7"}, TypeError, "msgid must be an int"),
            ({"msgid": True}, TypeError, "msgid must be an int"),
            ({"msgid": -1}, ValueError, "msgid must be from 0"),
            ({"msgid": 1 << 32}, ValueError, "msgid must be from 0"),
        ],
    )
    def test_for_what_is_no_type(
        self, router: Router, arguments: Any, error: type[Exception], text: str
    ) -> None:
        with pytest.raises(error, match=text):
            router.on(**arguments)

    @pytest.mark.parametrize(
        "handler", [lambda: None, lambda a, b, c: None, lambda *, job: None, "handler"]
    )
    def test_handlers_that_cannot_be_called(self, handler: Any) -> None:
        with pytest.raises(TypeError, match=r"cannot be called with|must be callable"):
            Router().on(Job)(handler)
        with pytest.raises(TypeError, match=r"cannot be called with|must be callable"):
            Router().default(handler)
        with pytest.raises(TypeError, match="must be callable"):
            Router().middleware("handler")  # type: ignore[arg-type]

    def test_one_default(self) -> None:
        router = Router()
        router.default(lambda message: None)
        with pytest.raises(ValueError, match="there is a default already"):
            router.default(lambda message: None)


class Service:
    """Handlers that are methods."""

    def handle(self, job: Job, message: PortMessage) -> str:
        return f"{job.path} {message.msgid}"


def with_more(more: int, job: Job) -> str:
    return f"{job.path} {more}"


@pytest.mark.parametrize(
    ("handler", "answer"),
    [
        (lambda job: job.path, "/a"),
        (lambda job, message: f"{job.path} {message.msgid}", "/a 7"),
        (lambda job, message=None: f"{job.path} {message.msgid}", "/a 7"),
        (lambda job, retries=5: f"{job.path} {retries}", "/a 5"),
        (lambda job, *more: f"{job.path} {more}", "/a ()"),
        (Service().handle, "/a 7"),
        (partial(with_more, 3), "/a 3"),
        (repr, "Job(path='/a', retries=3)"),
    ],
)
def test_handlers_take_the_payload_and_the_message(
    handler: Callable[..., str], answer: str
) -> None:
    router = Router()
    router.on(Job)(handler)
    message = PortMessage(components=Job(path="/a"))
    assert router(message) == answer


def test_requests(world: World, router: Router) -> None:
    port = world.served(router)
    assert port.request(Job(path="/a"), reply=Result) == Result(path="/a", size=3)
    assert port.request(b"data", msgid=100).data == b"raw data"


def test_the_default_takes_all_else(world: World, router: Router) -> None:
    router.default(lambda message: b"default %d" % message.msgid)
    port = world.served(router)
    assert port.request(Picture(name="a")).data == b"default 9"
    assert port.request(Job(path="/a"), reply=Result).size == 3


class TestRefusing:
    def test_what_nobody_knows(self, world: World, router: Router) -> None:
        port = world.served(router)
        with pytest.raises(
            InvalidPayloadError, match="no handler takes message 9; there are some for 7, 100"
        ):
            port.request(Picture(name="a"))
        with pytest.raises(InvalidPayloadError, match="no handler takes message 0"):
            port.request(b"raw")
        assert router.invalid == 2

    def test_of_many_numbers_some_are_told(self) -> None:
        router = Router()
        for number in range(1000):
            router.on(msgid=number)(lambda message: None)
        with MachPort(router) as port:
            port.send(b"", msgid=4000)
            port.process()
        assert router.invalid == 1

    def test_wrong_fields(self, world: World, router: Router) -> None:
        """The requester is told which; it goes on, and so does the service."""
        port = world.served(router)
        with pytest.raises(InvalidPayloadError) as caught:
            port.request(b'{"path": 3}', msgid=7)
        assert str(caught.value) == "Job: path: Input should be a valid string"
        assert isinstance(caught.value, PortError)
        assert isinstance(caught.value, ValueError)
        assert port.request(Job(path="/a"), reply=Result).size == 3
        assert router.invalid == 1

    @pytest.mark.parametrize("components", [(), [MachPort()], b"", b"\xff", b"[" * 100_000])
    def test_bytes_that_are_none(self, world: World, router: Router, components: Any) -> None:
        port = world.served(router)
        with pytest.raises(InvalidPayloadError, match="^Job: "):  # noqa: RUF043
            port.request(components, msgid=7)

    def test_a_text_of_the_longest_length(self, world: World) -> None:
        """A FAILED frame has 1024 bytes of it."""

        class Wide(Payload, msgid=50):
            pass

        fields = {f"{'κ' * 90}{number}": int for number in range(9)}
        wide = type("Wide", (Payload,), {"__annotations__": fields}, msgid=50)
        router = Router()
        router.on(wide)(lambda message: None)
        with pytest.raises(InvalidPayloadError) as caught:
            world.served(router).request(Wide())
        assert str(caught.value).startswith(f"Wide: {'κ' * 90}0: Field required; ")
        assert str(caught.value).isprintable()

    def test_messages_that_ask_for_no_answer(
        self, world: World, router: Router, caplog: pytest.LogCaptureFixture
    ) -> None:
        port = world.served(router)
        with caplog.at_level(logging.WARNING, "portkit"):
            port.send(b'{"path": {"secret": 1}}', msgid=7)
            assert eventually(lambda: router.invalid)
            assert port.request(Job(path="/a"), reply=Result).size == 3
        (record,) = [record for record in caplog.records if record.name == "portkit"]
        assert "is ignored: Job: path: Input should be a valid string" in record.getMessage()
        assert "secret" not in record.getMessage()
        assert router.invalid == 1

    def test_not_because_of_another_service(self, world: World, reports: Reports) -> None:
        """A handler asks wrongly: that is its own fault, not that of whoever asked it."""
        inner = world.served(Router())
        router = Router()

        @router.on(Job)
        def ask(job: Job) -> Any:
            return inner.request(Picture(name="a"), reply=Result)

        port = world.served(router)
        with pytest.raises(ReplyDroppedError):
            port.request(Job(path="/a"))
        error = reported(reports)
        assert isinstance(error, InvalidPayloadError)
        assert router.invalid == 0

    def test_not_because_of_another_message(self, world: World, reports: Reports) -> None:
        router = Router()

        @router.on(Job)
        def look(job: Job) -> Any:
            return Result.from_message(PortMessage(components=b"{}", msgid=8))

        with pytest.raises(ReplyDroppedError):
            world.served(router).request(Job(path="/a"))
        assert isinstance(reported(reports), InvalidPayloadError)
        assert router.invalid == 0

    def test_from_many_threads_all_are_counted(self, router: Router) -> None:
        with LoopThread() as one, LoopThread() as two:
            ports = [MachPort(router, queue_limit=2000) for _ in range(2)]
            for thread, port in zip((one, two), ports, strict=True):
                thread.loop.add_port(port)
            for port in ports:
                port.send_many([PortMessage(components=b"", msgid=7)] * 500)
            assert eventually(lambda: router.invalid == 1000)
            for port in ports:
                port.invalidate()


class TestHandlersThatFail:
    def test_with_any_error(self, world: World, router: Router, reports: Reports) -> None:
        @router.on(Login)
        def fail(login: Login) -> None:
            raise LookupError("no such user")

        port = world.served(router)
        with pytest.raises(ReplyDroppedError):
            port.request(Login.model_validate({"user": "me", "password": "hush"}))
        error = reported(reports)
        assert isinstance(error, LookupError)
        assert router.invalid == 0

    @pytest.mark.parametrize("garbage", [3, "text", {"a": 1}, [Job(path="/a")], object(), Job])
    def test_to_answer(self, world: World, router: Router, reports: Reports, garbage: Any) -> None:
        router.on(Anything)(lambda message: garbage)
        port = world.served(router)
        with pytest.raises(ReplyDroppedError):
            port.request(Anything())
        error = reported(reports)
        assert isinstance(error, TypeError)
        assert "what the delegate returned is no answer" in str(error)
        assert port.request(Job(path="/a"), reply=Result).size == 3

    def test_by_being_async_where_nobody_awaits(
        self, world: World, router: Router, reports: Reports
    ) -> None:
        @router.on(Anything)
        async def later(message: Anything) -> Any:
            return b"late"

        port = world.served(router)
        with pytest.raises(ReplyDroppedError):
            port.request(Anything())
        error = reported(reports)
        assert isinstance(error, TypeError)
        assert "portkit.aio" in str(error)
        assert port.request(Job(path="/a"), reply=Result).size == 3


class TestMiddleware:
    def test_wraps_from_the_outside_in(self, world: World, router: Router) -> None:
        seen: list[str] = []
        for name in ("outer", "inner"):

            @router.middleware
            def note(message: PortMessage, call_next: Any, name: str = name) -> Any:
                seen.append(f"{name} before {message.msgid}")
                answer = call_next(message)
                seen.append(f"{name} after {type(answer).__name__}")
                return answer

        port = world.served(router)
        assert port.request(Job(path="/a"), reply=Result).size == 3
        assert seen == [
            "outer before 7", "inner before 7", "inner after Result", "outer after Result",
        ]  # fmt: skip

    def test_sees_the_payload_and_may_answer_itself(self, world: World, router: Router) -> None:
        bodies: list[Any] = []

        @router.middleware
        def guard(message: PortMessage, call_next: Any) -> Any:
            bodies.append(message.body)
            if isinstance(message.body, Job) and message.body.path == "/forbidden":
                return Result(path="", size=0)
            assert message.body is bodies[-1], "decoded once"
            return call_next(message)

        port = world.served(router)
        assert port.request(Job(path="/forbidden"), reply=Result).path == ""
        assert port.request(Job(path="/a"), reply=Result).path == "/a"
        assert port.request(b"x", msgid=100).data == b"raw x"
        assert bodies == [Job(path="/forbidden"), Job(path="/a"), None]

    def test_that_looks_at_a_bad_payload(self, world: World, router: Router) -> None:
        @router.middleware
        def look(message: PortMessage, call_next: Any) -> Any:
            return message.body and call_next(message)

        with pytest.raises(InvalidPayloadError, match="Job: path: Field required"):
            world.served(router).request(b"{}", msgid=7)
        assert router.invalid == 1

    def test_may_drop_before_anything_is_parsed(self, world: World, router: Router) -> None:
        @router.middleware
        def drop(message: PortMessage, call_next: Any) -> None:
            message.drop()

        with pytest.raises(ReplyDroppedError):
            world.served(router).request(b"{}", msgid=7, reply_timeout=PATIENCE)
        assert router.invalid == 0

    def test_a_request_that_went_on_is_not_answered_here(
        self, world: World, router: Router, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It was handed on: whoever has it now answers, even if it was no payload for us."""
        elsewhere = world.served(lambda message: b"from elsewhere")

        @router.middleware
        def hand_on(message: PortMessage, call_next: Any) -> Any:
            elsewhere.send(b"", reply_port=message.send_port)
            return call_next(message)

        port = world.served(router)
        with caplog.at_level(logging.WARNING, "portkit"):
            assert port.request(b"{}", msgid=7).data == b"from elsewhere"
            assert eventually(lambda: router.invalid)


class TestAsync:
    """What is awaited, by whatever loop; tests/aio has it served."""

    @staticmethod
    def run(router: Router, message: PortMessage) -> Any:
        async def await_it() -> Any:
            return await router(message)

        return asyncio.run(await_it())

    @pytest.fixture
    def later(self) -> Router:
        router = Router()

        @router.on(Job)
        async def run(job: Job) -> Result:
            await asyncio.sleep(0)
            return Result(path=job.path, size=1)

        @router.middleware
        async def note(message: PortMessage, call_next: Any) -> Any:
            return await call_next(message)

        return router

    def test_answers(self, later: Router) -> None:
        answer = self.run(later, PortMessage(components=Job(path="/a")))
        assert answer == Result(path="/a", size=1)

    def test_plain_handlers_under_an_async_middleware(self, later: Router) -> None:
        later.on(msgid=100)(lambda message: b"plain")
        assert self.run(later, PortMessage(msgid=100)) == b"plain"

    def test_plain_middleware_over_async_handlers(self) -> None:
        router = Router()

        @router.on(Job)
        async def run(job: Job) -> Result:
            return Result(path=job.path, size=1)

        router.middleware(lambda message, call_next: call_next(message))
        assert self.run(router, PortMessage(components=Job(path="/a"))).size == 1

    def test_refusing(self, later: Router, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "portkit"):
            assert self.run(later, PortMessage(components=b"{}", msgid=7)) is None
        assert later.invalid == 1
        assert "is ignored: Job: path: Field required" in caplog.text

    def test_not_because_of_another_service(self, later: Router) -> None:
        @later.on(Picture)
        async def ask(picture: Picture) -> Any:
            raise InvalidPayloadError("the other service was asked wrongly")

        with pytest.raises(InvalidPayloadError, match="asked wrongly"):
            self.run(later, PortMessage(components=Picture(name="a")))
        assert later.invalid == 0
