"""A delegate that gives each message to the handler of its type."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator
from threading import Lock
from typing import Any, NamedTuple, TypeAlias, TypeVar, get_type_hints

from portkit import _tally
from portkit._report import logger
from portkit.errors import InvalidPayloadError
from portkit.message import Body, Contents, PortMessage
from portkit.port import ReplyPort
from portkit.typed.payload import Payload, check_msgid

_ANSWERS = (Body, bytes)
"""The usual ones, of which none is awaitable: asking costs as much as all else of a call here."""

_MOST = 20
"""Numbers that are told to whoever sent another one."""

H = TypeVar("H", bound=Callable[..., Any])
Next: TypeAlias = Callable[[PortMessage], Any]
"""What a middleware calls to go on; what comes back is the handler's answer, or an awaitable."""
Middleware: TypeAlias = Callable[[PortMessage, Next], Any]


class Route(NamedTuple):
    """What handles the messages of one number.

    Attributes:
        handler: as it was registered.
        payload: the type that messages are to have, or None for messages as they are.
        takes_message: whether the handler also wants the message.
        answer: what the handler is annotated to answer with, or None where it says nothing.
    """

    handler: Callable[..., Any]
    payload: type[Payload] | None
    takes_message: bool
    answer: Any


class Router:
    """Gives each message to the handler that was registered for its type or number.

    It is a delegate: ``port.delegate = router``. What a handler returns answers a request, a
    payload for one; None answers with empty data. A request that does not validate, or that
    nobody handles, is answered by an error, and the requester gets ``InvalidPayloadError``; a
    message that asks for no answer is logged then, and counted in :attr:`invalid`.

    A handler for a payload takes the payload, or the payload and the message; one for a number,
    and the default, the message. Handlers may be ``async`` where the port is served by
    :func:`portkit.aio.serve`. Register everything before the port is served.

    Attributes:
        invalid: how many messages were refused so far.
    """

    def __init__(self) -> None:
        self.invalid: int = 0
        self._lock = Lock()  # of that number: several ports, and threads, may have one router
        self._routes: dict[int, Route] = {}
        self._default: Callable[[PortMessage], Any] | None = None
        self._middleware: list[Middleware] = []
        self._call: Next = self._dispatch

    @property
    def routes(self) -> dict[int, Route]:
        """What is registered, by msgid."""
        return dict(self._routes)

    @property
    def has_default(self) -> bool:
        """Whether messages that no other handler takes have one, too."""
        return self._default is not None

    def on(
        self, payload: type[Payload] | None = None, *, msgid: int | None = None
    ) -> Callable[[H], H]:
        """Register the decorated function for a type of payload, or for messages of a number.

        Raises:
            TypeError: neither or both are given, or the handler takes other arguments.
            ValueError: there is a handler for that number already.
        """
        if (payload is None) == (msgid is None):
            raise TypeError("give a Payload class, or msgid=: @router.on(Job), @router.on(msgid=7)")
        if isinstance(payload, int):
            raise TypeError(f"a number is given by name: @router.on(msgid={payload})")
        if payload is not None and not _is_payload(payload):
            raise TypeError(f"{payload!r} is no Payload class; write @router.on(Job) or msgid=7")
        number = check_msgid(payload.msgid if payload is not None else msgid)

        def register(handler: H) -> H:
            if number in self._routes:
                taken = self._routes[number]
                raise ValueError(
                    f"message {number} is {_called(taken.payload)}, which "
                    f"{_called(taken.handler)} handles; {_called(handler)}, for "
                    f"{_called(payload)}, needs another number: give each class a msgid= of its own"
                )
            self._routes[number] = _route(handler, payload)
            return handler

        return register

    def default(self, handler: H) -> H:
        """Register the decorated function for messages that no other handler takes.

        Raises:
            ValueError: there is one already.
        """
        if self._default is not None:
            raise ValueError(f"there is a default already: {self._default!r}")
        self._default = _route(handler, None).handler
        return handler

    def middleware(self, middleware: Middleware) -> Middleware:
        """Wrap all handling: ``middleware(message, call_next)`` returns what is to be the answer.

        Those registered first are outermost. ``message.body`` is decoded when it is looked at, so a
        middleware can refuse a sender before anything is parsed. An ``async`` one may always await
        what ``call_next`` returns; a plain one may get an awaitable, and return that.
        """
        if not callable(middleware):
            raise TypeError(f"a middleware must be callable, not {type(middleware).__name__}")
        self._middleware.append(middleware)
        call: Next = self._dispatch
        for wrapper in reversed(self._middleware):
            call = _wrapped(wrapper, call)
        self._call = call
        return middleware

    def __call__(self, message: PortMessage) -> Any:
        """Handle one message; returns the answer, or an awaitable of it from an async handler."""
        if self._middleware and (route := self._routes.get(message.msgid)) and route.payload:
            message.expect(route.payload)
        try:
            result = self._call(message)
        except InvalidPayloadError as error:
            if error.about is not message:  # but of a request that the handler made itself
                raise
            self._refuse(message, error)
            return None
        if result is None or isinstance(result, _ANSWERS) or not inspect.isawaitable(result):
            return result
        return _Pending(self, message, result)

    def _dispatch(self, message: PortMessage) -> Any:
        route = self._routes.get(message.msgid)
        if route is None:
            if self._default is None:
                raise self._unknown(message)
            return self._default(message)
        payload = route.payload
        if payload is None:
            return route.handler(message)
        packed = message._packed
        if type(packed) is Contents and type(packed.body) is payload:
            body: Any = packed.body  # as message.body finds, without its call
        else:
            if not self._middleware:  # else it was said before, and the body may be there
                message.expect(payload)
            body = message.body
        return route.handler(body, message) if route.takes_message else route.handler(body)

    def _unknown(self, message: PortMessage) -> InvalidPayloadError:
        known = sorted(self._routes)
        some = ", ".join(map(str, known[:_MOST])) + (", …" if len(known) > _MOST else "")
        error = InvalidPayloadError(
            f"no handler takes message {message.msgid}; there are some for {some or 'none'}"
        )
        error.about = message
        return error

    def _refuse(self, message: PortMessage, error: InvalidPayloadError) -> None:
        with self._lock:
            self.invalid += 1
        _tally.payloads_refused.add()
        asker = message.send_port
        if isinstance(asker, ReplyPort) and not asker.used:
            asker.fail(InvalidPayloadError(str(error)))  # without the message, which it keeps alive
        else:
            logger.warning("a message from %s is ignored: %s", message.sender or "here", error)

    def __repr__(self) -> str:
        names = [
            f"{number}: {route.payload.__name__ if route.payload else 'messages'}"
            for number, route in sorted(self._routes.items())
        ]
        return f"<Router {', '.join(names) or 'without handlers'}>"


class _Pending:
    """The answer of an async handler, to be awaited once; as of a plain one errors are refused."""

    __slots__ = ("_message", "_result", "_router")

    def __init__(self, router: Router, message: PortMessage, result: Awaitable[Any]) -> None:
        self._router = router
        self._message = message
        self._result = result

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            return (yield from self._result.__await__())
        except InvalidPayloadError as error:
            if error.about is not self._message:
                raise
            self._router._refuse(self._message, error)
            return None

    def close(self) -> None:
        """Nobody will await it."""
        close = getattr(self._result, "close", None)
        if close is not None:
            close()


def _route(handler: Callable[..., Any], payload: type[Payload] | None) -> Route:
    """What is known of a handler from its signature.

    Raises:
        TypeError: it cannot be called with what it will get.
    """
    if not callable(handler):
        raise TypeError(f"a handler must be callable, not {type(handler).__name__}")
    takes_message = False
    try:
        signature = inspect.signature(handler)
    except ValueError:  # written in C, with nothing to tell
        pass
    else:
        takes_message = payload is not None and _wants_message(signature)
        if not _takes(signature, 2 if takes_message else 1):
            wanted = (
                "the message" if payload is None else "the payload, or the payload and the message"
            )
            raise TypeError(f"{_called(handler)} cannot be called with {wanted}")
    try:
        answer = get_type_hints(handler).get("return")
    except (AttributeError, NameError, TypeError):  # hints for people only
        answer = None
    return Route(handler, payload, takes_message, answer)


def _is_payload(what: object) -> bool:
    return isinstance(what, type) and issubclass(what, Payload)


def _wants_message(signature: inspect.Signature) -> bool:
    """Whether a handler has a second argument that is meant for the message.

    One with a default, or ``*more``, may be meant for something else.
    """
    second = [*signature.parameters.values()][1:2]
    return not _takes(signature, 1) or (bool(second) and second[0].name == "message")


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _called(what: object) -> str:
    """How the program calls a class or a function."""
    if what is None:
        return "a message without a type"
    name = getattr(what, "__qualname__", None)
    return repr(what) if name is None else f"{getattr(what, '__module__', '')}.{name}"


def _wrapped(middleware: Middleware, call: Next) -> Next:
    if not inspect.iscoroutinefunction(middleware):
        return lambda message: middleware(message, call)

    async def call_awaited(message: PortMessage) -> Any:
        result = call(message)
        return await result if inspect.isawaitable(result) else result

    return lambda message: middleware(message, call_awaited)
