"""Pre-shared keys: who has the key gets through, who has not gets nowhere and learns nothing."""

from __future__ import annotations

import copy
import hashlib
import hmac
import pickle
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretBytes, ValidationError

from portkit.errors import AuthenticationError
from portkit.link import frames
from portkit.link.frames import HEADER, HEADER_SIZE, Kind
from portkit_transports.socket import shared_key
from portkit_transports.socket.shared_key import (
    CLIENT,
    SERVER,
    KeyDialler,
    KeyListener,
    PreSharedKey,
    binding_of,
    proof,
)
from tests.link.wire import messages, others

SECRET = b"0123456789abcdef"
BINDING = binding_of(b"a certificate")
ONE_LETTER = "abc"
"""Ids of which any becomes another one by a change of one byte."""

ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
sizes_of_secrets = st.binary(min_size=16, max_size=200)
bindings = st.just(b"") | st.binary(min_size=1, max_size=50).map(binding_of)


def new_key(name: str = "laptop", secret: bytes = SECRET) -> PreSharedKey:
    return PreSharedKey(id=name, secret=SecretBytes(secret))


def new_listener(*keys: PreSharedKey, binding: bytes = BINDING) -> KeyListener:
    return KeyListener(keys or [new_key()], binding)


def new_dialler(key: PreSharedKey | None = None, binding: bytes = BINDING) -> KeyDialler:
    return KeyDialler(key or new_key(), binding)


class Outcome(NamedTuple):
    """What came of an exchange: every frame as it was sent, and what each side raised."""

    sent: list[bytes]
    dialler: AuthenticationError | None
    listener: AuthenticationError | None


def run(
    dialler: KeyDialler,
    listener: KeyListener,
    change: Callable[[int, bytes], bytes] = lambda _, frame: frame,
) -> Outcome:
    """Carry frames to and fro until one side is done or refuses; ``change`` sits in between.

    The listener's refusal is carried to the dialler, as a transport does.
    """
    assert listener.begin() == b""
    sent = [dialler.begin()]
    refused: AuthenticationError | None = None
    while sent[-1]:
        frame = change(len(sent) - 1, sent[-1])
        if len(sent) % 2:
            try:
                sent.append(listener.received(frame))
            except AuthenticationError as error:
                refused = error
                sent.append(frames.refusal(str(error)))
        else:
            try:
                sent.append(dialler.received(frame))
            except AuthenticationError as error:
                return Outcome(sent, error, refused)
    return Outcome(sent[:-1], None, refused)


def shape(frame: bytes) -> tuple[int, ...]:
    """Of a frame all that does not depend on chance."""
    return HEADER.unpack_from(frame)


def stepped(frame: bytes, step: int) -> bytes:
    """The same, as if it were of another step."""
    return frames.auth(step, frame[HEADER_SIZE:])


def fails(side: KeyDialler | KeyListener, frame: bytes) -> str:
    """That the side refuses the frame, and what it says."""
    with pytest.raises(AuthenticationError) as raised:
        side.received(frame)
    assert not side.is_done
    return str(raised.value)


# Who has the key.


@given(ids, sizes_of_secrets, bindings)
def test_both_sides_prove_the_key(name: str, secret: bytes, binding: bytes) -> None:
    another = new_key("b" if name == "a" else "a")
    key = new_key(name, secret)
    dialler, listener = new_dialler(key, binding), new_listener(another, key, binding=binding)
    outcome = run(dialler, listener)
    assert outcome[1:] == (None, None)
    assert dialler.is_done
    assert listener.is_done
    assert listener.key_id == name
    assert [shape(frame) for frame in outcome.sent] == [
        (40 + len(name), Kind.AUTH, 1, 0),
        (40, Kind.AUTH, 2, 0),
        (40, Kind.AUTH, 3, 0),
        (40, Kind.AUTH, 4, 0),
    ]


def test_nobody_is_done_before_the_other_has_proved_it() -> None:
    dialler, listener = new_dialler(), new_listener()
    third = dialler.received(listener.received(dialler.begin()))
    assert (dialler.is_done, listener.is_done, listener.key_id) == (False, False, "")
    fourth = listener.received(third)
    assert (dialler.is_done, listener.is_done, listener.key_id) == (False, True, "laptop")
    assert dialler.received(fourth) == b""
    assert (dialler.is_done, listener.is_done) == (True, True)


def test_a_proof_is_what_the_protocol_says() -> None:
    dialler, listener = new_dialler(), new_listener()
    first, second, third, fourth = (frame[HEADER_SIZE:] for frame in run(dialler, listener).sent)
    assert first[32:] == b"laptop"
    said = b"\x06laptop" + first[:32] + second + hashlib.sha256(b"a certificate").digest()
    assert third == hmac.new(SECRET, b"portkit client" + said, hashlib.sha256).digest()
    assert fourth == hmac.new(SECRET, b"portkit server" + said, hashlib.sha256).digest()


def test_without_tls_nothing_is_bound() -> None:
    assert binding_of(b"") == b""


def test_nonces_are_new_each_time() -> None:
    exchanges = [run(new_dialler(), new_listener()).sent for _ in range(20)]
    assert len({frame for sent in exchanges for frame in sent}) == 20 * 4


def test_keys_of_a_listener_are_told_apart_by_their_ids() -> None:
    with pytest.raises(ValueError, match="give one pre-shared key or more"):
        KeyListener([], b"")
    with pytest.raises(ValueError, match="an id of its own"):
        KeyListener([new_key(), new_key(secret=b"another secret..")], b"")


# Who has it not.


OTHERS: dict[str, tuple[PreSharedKey, bytes]] = {
    "secret": (new_key(secret=b"0123456789abcdeF"), BINDING),
    "longer secret": (new_key(secret=SECRET + b"!"), BINDING),
    "id": (new_key("laptoq"), BINDING),
    "id with the end of another": (new_key("lapto"), BINDING),
    "certificate": (new_key(), binding_of(b"another certificate")),
    "no certificate": (new_key(), b""),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_key_or_connection_is_refused(name: str) -> None:
    dialler, listener = KeyDialler(*OTHERS[name]), new_listener()
    outcome = run(dialler, listener)
    assert outcome.listener is not None
    assert outcome.dialler is not None
    assert str(outcome.listener) in str(outcome.dialler), "it is told why"
    assert "give both sides the same key" in str(outcome.dialler)
    assert not dialler.is_done
    assert not listener.is_done
    assert listener.key_id == ""


def test_an_unknown_id_looks_like_a_wrong_secret() -> None:
    seen = []
    for key in (new_key("phones"), new_key(secret=b"another secret..")):
        dialler, listener = new_dialler(key), new_listener()
        outcome = run(dialler, listener)
        seen.append((str(outcome.dialler), str(outcome.listener), [*map(shape, outcome.sent)]))
    assert seen[0] == seen[1]


def test_an_unknown_id_is_compared_as_a_wrong_secret_is(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append(len(a) + len(b))
        return hmac.compare_digest(a, b)

    class Watched:
        compare_digest = staticmethod(compare)
        digest = staticmethod(hmac.digest)

    monkeypatch.setattr(shared_key, "hmac", Watched)
    for key in (new_key("phones"), new_key(secret=b"another secret..")):
        run(new_dialler(key), new_listener())
    assert compared == [64, 64]
    run(new_dialler(), new_listener())
    assert compared == [64] * 4, "by both sides"


@pytest.mark.parametrize("secret", [b"", bytes(32), SECRET, b"phones"])
def test_an_unknown_id_has_no_secret_that_can_be_guessed(secret: bytes) -> None:
    listener = new_listener()
    nonce = listener.received(frames.auth(1, bytes(32) + b"phones"))[HEADER_SIZE:]
    guess = proof(secret, CLIENT, b"phones", bytes(32) + nonce, BINDING)
    fails(listener, frames.auth(3, guess))


@pytest.mark.parametrize(
    "key_id", [b"", b"\0", b"\xff\xfe", b"a b", b"x" * 64, b"\r\nforged: line"]
)
def test_the_log_can_tell_which_key_was_meant(key_id: bytes) -> None:
    listener = new_listener()
    assert listener.claim == ""
    listener.received(frames.auth(1, bytes(32) + key_id))
    assert listener.claim.endswith(", which is not known,")
    assert listener.claim.isprintable()
    assert listener.claim.isascii()
    assert "give both sides the same key" in fails(listener, frames.auth(3, bytes(32)))


def test_the_log_can_tell_of_a_key_that_is_known() -> None:
    listener = new_listener()
    listener.received(frames.auth(1, bytes(32) + b"laptop"))
    assert listener.claim == "key 'laptop'"
    assert "laptop" not in fails(listener, frames.auth(3, bytes(32)))


# Somebody in between.


@given(st.integers(0, 3), st.data())
def test_a_changed_byte_is_noticed(which: int, data: st.DataObject) -> None:
    keys = [new_key(name) for name in ONE_LETTER]  # of one secret, so only the id tells
    dialler, listener = new_dialler(keys[0]), new_listener(*keys)

    def change(number: int, frame: bytes) -> bytes:
        if number != which:
            return frame
        at = data.draw(st.integers(0, len(frame) - 1), "at")
        changed = bytearray(frame)
        changed[at] ^= data.draw(st.integers(1, 255), "by")
        return bytes(changed)

    outcome = run(dialler, listener, change)
    assert not dialler.is_done
    assert outcome.dialler is not None or outcome.listener is not None
    # The listener has all that it wants to know once the third frame came.
    assert listener.is_done == (which == 3)


@given(st.integers(0, 3), st.binary(max_size=120))
@example(0, b"")
@example(0, frames.auth(1, bytes(32) + b"x" * 65))
@example(0, frames.auth(1, bytes(31)))
@example(2, frames.auth(3, bytes(33)))
@example(2, frames.auth(3, b""))
def test_rubbish_is_refused(which: int, rubbish: bytes) -> None:
    dialler, listener = new_dialler(), new_listener()
    outcome = run(dialler, listener, lambda number, frame: rubbish if number == which else frame)
    assert not dialler.is_done
    assert outcome.dialler is not None or outcome.listener is not None
    assert listener.is_done == (which == 3)


@given(st.integers(0, 3), messages | others)
def test_other_frames_are_refused(which: int, other: bytes) -> None:
    dialler, listener = new_dialler(), new_listener()
    outcome = run(dialler, listener, lambda number, frame: other if number == which else frame)
    assert not dialler.is_done
    assert outcome.dialler is not None or outcome.listener is not None


@given(st.integers(0, 3), st.integers(1, 45), st.booleans())
def test_a_frame_cut_off_or_prolonged_is_refused(which: int, size: int, cut: bool) -> None:
    dialler, listener = new_dialler(), new_listener()

    def change(number: int, frame: bytes) -> bytes:
        if number != which:
            return frame
        changed = frame[:-size] if cut else frame + bytes(size)
        return HEADER.pack(len(changed), *shape(frame)[1:]) + changed[HEADER_SIZE:]

    outcome = run(dialler, listener, change)
    assert not dialler.is_done
    assert outcome.dialler is not None or outcome.listener is not None


def test_an_old_exchange_cannot_be_replayed() -> None:
    first, second, third, fourth = run(new_dialler(), new_listener()).sent
    listener = new_listener()
    listener.received(first)
    fails(listener, third)
    dialler = new_dialler()
    dialler.begin()
    dialler.received(second)
    assert "does not prove pre-shared key 'laptop'" in fails(dialler, fourth)


def test_a_dialler_is_not_deceived_by_its_own_words() -> None:
    for step in (1, 2):
        dialler = new_dialler()
        first = dialler.begin()
        own = frames.auth(step, first[HEADER_SIZE : HEADER_SIZE + 32])
        if step == 1:
            fails(dialler, own)
        else:
            fails(dialler, stepped(dialler.received(own), 4))


def test_diallers_do_not_vouch_for_each_other() -> None:
    one, other = new_dialler(), new_dialler()
    first, second = (side.begin()[HEADER_SIZE : HEADER_SIZE + 32] for side in (one, other))
    from_one = one.received(frames.auth(2, second))
    from_other = other.received(frames.auth(2, first))
    fails(one, stepped(from_other, 4))
    fails(other, stepped(from_one, 4))


def test_a_listener_does_not_vouch_for_who_asks_it() -> None:
    """Its own challenge, and what it says on another connection, are no proof."""
    listener, elsewhere = new_listener(), new_listener()
    challenge = listener.received(frames.auth(1, bytes(32) + b"laptop"))
    mirrored = elsewhere.received(frames.auth(1, challenge[HEADER_SIZE:] + b"laptop"))
    fails(elsewhere, stepped(challenge, 3))
    fails(listener, stepped(mirrored, 3))


def test_the_proof_of_one_side_is_not_the_other_s() -> None:
    nonces = bytes(64)
    given = {proof(SECRET, side, b"laptop", nonces, b"") for side in (CLIENT, SERVER)}
    assert len(given) == 2
    assert len(CLIENT) == len(SERVER), "so that neither is the beginning of the other"


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_ids_and_nonces_do_not_run_into_each_other(one: bytes, other: bytes) -> None:
    if one != other:
        said = [proof(SECRET, CLIENT, name, bytes(64), b"") for name in (one, other)]
        assert said[0] != said[1]


def test_proofs_passed_on_over_another_certificate_are_worth_nothing() -> None:
    """Somebody who ends TLS in between has a certificate of his own, and so another binding."""
    dialler = new_dialler(binding=binding_of(b"his own"))
    outcome = run(dialler, new_listener())
    assert outcome.listener is not None
    assert not dialler.is_done


# Turns.


def sides() -> list[KeyDialler | KeyListener]:
    dialler, listener = new_dialler(), new_listener()
    run(dialler, listener)
    return [dialler, listener]


@given(messages | others | st.binary(max_size=60))
def test_nothing_follows_the_end(frame: bytes) -> None:
    for side in sides():
        assert side.is_done
        assert "after the end of the exchange" in fails(side, frame)


def test_nothing_comes_before_the_beginning() -> None:
    assert "before it began" in fails(new_dialler(), frames.auth(2, bytes(32)))


def test_after_a_failure_the_right_frame_is_too_late() -> None:
    dialler, listener = new_dialler(), new_listener()
    third = dialler.received(listener.received(dialler.begin()))
    fails(listener, third[:-1] + bytes([third[-1] ^ 1]))
    fails(listener, third)

    dialler, listener = new_dialler(), new_listener()
    fourth = listener.received(dialler.received(listener.received(dialler.begin())))
    fails(dialler, b"")
    fails(dialler, fourth)


@pytest.mark.parametrize("step", [0, 2, 3, 4, 5, 255])
def test_steps_come_in_their_order(step: int) -> None:
    text = fails(new_listener(), frames.auth(step, bytes(32)))
    assert f"step {step} came where step 1" in text
    dialler = new_dialler()
    dialler.begin()
    if step != 2:
        assert f"step {step} came where step 2" in fails(dialler, frames.auth(step, bytes(32)))


# Peers that are not part of it.


def test_a_peer_without_a_key_is_told_what_is_missing() -> None:
    text = fails(new_listener(), frames.record(Kind.HELLO, b"{}"))
    assert "a pre-shared key is asked for here" in text
    assert "give key= on both sides" in text


@pytest.mark.parametrize("step", [2, 4])
def test_a_refusal_s_reason_is_passed_on(step: int) -> None:
    dialler, listener = new_dialler(), new_listener()
    first = dialler.begin()
    if step == 4:
        dialler.received(listener.received(first))
    text = fails(dialler, frames.refusal("too many connections from there: ten"))
    assert text == "the peer refused the connection: too many connections from there: ten"


def test_a_refusal_cannot_write_into_the_log() -> None:
    dialler = new_dialler()
    dialler.begin()
    body = "é\x1b[2J\r\nERROR forged\0".encode() + b"\xff" * 4000
    text = fails(dialler, frames.record(Kind.REFUSED, body))
    assert text.startswith("the peer refused the connection: é?[2J??ERROR forged?")
    assert text.isprintable()
    assert len(text) < 1100


def test_a_listener_is_not_refused() -> None:
    assert "does not keep to the exchange" in fails(new_listener(), frames.refusal("no"))


# Keys.


def test_a_generated_key_is_random() -> None:
    secrets = {PreSharedKey.generate("x").secret.get_secret_value() for _ in range(10)}
    assert len(secrets) == 10
    assert {len(secret) for secret in secrets} == {32}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"secret": SECRET}, "id"),
    "empty id": ({"id": "", "secret": SECRET}, "id"),
    "long id": ({"id": "x" * 65, "secret": SECRET}, "id"),
    "id with a space": ({"id": "my laptop", "secret": SECRET}, "id"),
    "id with a line": ({"id": "laptop\n", "secret": SECRET}, "id"),
    "id that is not ASCII": ({"id": "läptop", "secret": SECRET}, "id"),
    "short": ({"id": "laptop", "secret": SECRET[1:]}, r"16 to 1024 random bytes.*generate\(id\)"),
    "long": ({"id": "laptop", "secret": SECRET * 65}, "16 to 1024 random bytes"),
    "text": ({"id": "laptop", "secret": SECRET.decode()}, "secret"),
    "bytearray": ({"id": "laptop", "secret": bytearray(SECRET)}, "secret"),
    "missing": ({"id": "laptop"}, "secret"),
    "more": ({"id": "laptop", "secret": SECRET, "shared": True}, "shared"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_key_is_refused(name: str) -> None:
    values, reason = WRONG[name]
    with pytest.raises(ValueError, match=reason) as raised:
        PreSharedKey(**values)
    assert isinstance(raised.value, ValidationError)
    shown = f"{raised.value!r} {raised.value.errors()!r} {traceback.format_exception(raised.value)}"
    assert "456789abcd" not in shown


def test_what_is_not_even_an_object_is_not_shown() -> None:
    with pytest.raises(ValidationError) as raised:
        PreSharedKey.model_validate(SECRET)
    assert hidden(str(raised.value))
    with pytest.raises(ValidationError, match="secret") as raised:
        PreSharedKey.model_validate_json(b'{"id": "laptop", "secret": "%s"}' % SECRET)
    assert hidden(f"{raised.value} {raised.value.errors()}")


def test_the_secret_may_be_given_as_it_is() -> None:
    assert PreSharedKey(id="laptop", secret=SECRET) == new_key()  # type: ignore[arg-type]


def test_a_key_is_a_value() -> None:
    key = new_key()
    assert key == new_key()
    assert hash(key) == hash(new_key())
    assert key != new_key(secret=b"another secret..")
    assert copy.copy(key) == copy.deepcopy(key) == key
    with pytest.raises(ValidationError, match="frozen"):
        key.id = "other"  # type: ignore[misc]


def hidden(text: str) -> bool:
    forms = (SECRET.decode(), SECRET.hex(), SECRET.hex(" "), repr(list(SECRET))[1:-1])
    return not any(form in text for form in forms)


def test_the_secret_is_shown_nowhere() -> None:
    key = new_key()
    shown = [repr(key), str(key), f"{key}", key.model_dump_json(), repr(key.model_dump())]
    shown += map(repr, sides())
    outcome = run(new_dialler(new_key(secret=SECRET + b"x")), new_listener())
    for error in outcome[1:]:
        assert error is not None
        shown += [repr(error), *traceback.format_exception(error)]
    assert all(map(hidden, shown))
    assert "laptop" in shown[0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_key_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match=r"pass on the path of its file, and PreSharedKey\.read"):
        pickle.dumps({"key": new_key()}, protocol)
