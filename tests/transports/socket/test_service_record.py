"""Names as labels of DNS, and records that strangers wrote."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portkit_transports.socket.service_record import (
    MAX_ADDRESSES,
    MAX_LABEL_BYTES,
    SERVICE_TYPE,
    Service,
    instance_of,
    label_in,
    label_of,
    name_of,
    read_service,
)

ID = bytes(range(16))


def text_of(**values: str) -> bytes:
    """A TXT record: the right one, but for ``values``; an empty one leaves its key out."""
    found = {"version": "1", "id": ID.hex(), "tls": "1", "key": "0", **values}
    lines = [f"{key}={value}".encode() for key, value in found.items() if value]
    return b"".join([bytes([len(line)]) + line for line in lines])


class TestLabels:
    @pytest.mark.parametrize(
        ("name", "label"),
        [
            ("clock", "clock"),
            ("Größe 日本/\\", "Größe 日本/\\"),
            ("com.example.clock", "com%2Eexample%2Eclock"),
            ("100%", "100%25"),
            ("a\nb\x7f", "a%0Ab%7F"),
            ("_sub", "%5Fsub"),
            ("..", "%2E%2E"),
        ],
    )
    def test_a_name_there_and_back(self, name: str, label: str) -> None:
        assert label_of(name) == label
        assert name_of(label) == name
        assert label_in(instance_of(label)) == label

    @given(st.text(min_size=1, max_size=21))
    @example("%2E")
    def test_any_short_name(self, name: str) -> None:
        try:
            label = label_of(name)
        except ValueError:
            return
        assert name_of(label) == name
        assert len(label.encode()) <= MAX_LABEL_BYTES
        assert label_in(instance_of(label)) == label

    @pytest.mark.parametrize("name", ["a" * 64, "ä" * 32, "." * 22])
    def test_too_long(self, name: str) -> None:
        with pytest.raises(ValueError, match="at most 63 bytes of UTF-8"):
            label_of(name)

    @pytest.mark.parametrize("name", ["a" * 63, "ä" * 31, "." * 21])
    def test_just_short_enough(self, name: str) -> None:
        assert name_of(label_of(name)) == name

    @pytest.mark.parametrize("name", ["", "a\0", "\udc80"])
    def test_no_name(self, name: str) -> None:
        with pytest.raises(ValueError, match="name"):
            label_of(name)

    @pytest.mark.parametrize("label", ["", "a.b", "%00", "%FF", "%2e", "%41", "_x", "%", "a" * 64])
    def test_labels_that_nobody_here_writes(self, label: str) -> None:
        with pytest.raises(ValueError):
            name_of(label)

    @pytest.mark.parametrize(
        "instance", ["", "a", f"a.b.{SERVICE_TYPE}", SERVICE_TYPE, "a._http._tcp.local."]
    )
    def test_other_services(self, instance: str) -> None:
        with pytest.raises(ValueError, match="is not LABEL"):
            label_in(instance)

    def test_case_of_the_type_is_nothing(self) -> None:
        assert label_in(f"Clock.{SERVICE_TYPE.upper()}") == "Clock"


class TestRecords:
    def test_as_it_is_written(self) -> None:
        service = Service("clock", ID, ("10.0.0.5", "fe80::1%2"), 7000, tls=True)
        text = b"".join(
            [
                bytes([len(line)]) + line
                for line in (f"{k}={v}".encode() for k, v in service.text.items())
            ]
        )
        assert text == text_of()
        assert read_service("clock", text, list(service.addresses), 7000) == service

    def test_more_than_this_version_knows(self) -> None:
        assert read_service("a", text_of(colour="blue", key="1"), ["::1"], 1).key
        assert not read_service("a", text_of(tls="", key=""), ["::1"], 1).tls

    def test_a_key_twice(self) -> None:
        assert read_service("a", text_of() + b"\x05tls=0\x05TLS=0", ["::1"], 1).tls

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (b"", "version: Field required"),
            (text_of(version="2"), "version: Input should be '1'"),
            (text_of(id=""), "id: Field required"),
            (text_of(id="00" * 16), "nothing but zeros"),
            (text_of(id="00" * 15), "id: String should match"),
            (text_of(id=ID.hex() + "\n"), "id: String should match"),
            (text_of(id="\u0660" * 32), "id: String should match"),
            (text_of(tls="yes"), "tls: Input should be '0' or '1'"),
            (text_of(version="\xff"), "version: Input should be '1'"),
            (b"\xff" + b"a" * 3, "version: Field required"),
            (b"\x01a" * 600, "has 1200 bytes, and at most 1024"),
        ],
    )
    def test_wrong_text(self, text: bytes, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            read_service("a", text, ["127.0.0.1"], 7000)

    @given(st.binary(max_size=200))
    def test_any_text(self, text: bytes) -> None:
        with pytest.raises(ValueError, match="TXT record"):
            read_service("a", text, ["127.0.0.1"], 7000)

    @pytest.mark.parametrize("number", [None, 0, -1, 65536])
    def test_no_port_number(self, number: int | None) -> None:
        with pytest.raises(ValueError, match="there is no port"):
            read_service("a", text_of(), ["127.0.0.1"], number)

    def test_addresses(self) -> None:
        with pytest.raises(ValueError, match="no address"):
            read_service("a", text_of(), [], 1)
        many = [f"10.0.0.{number}" for number in range(200)]
        assert read_service("a", text_of(), many, 1).addresses == tuple(many[:MAX_ADDRESSES])
