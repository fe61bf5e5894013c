"""Typed messages: payloads, the codecs that write them, and routers that serve them."""

from portkit.typed.codec import JSON, Codec, JSONCodec
from portkit.typed.fields import Data, View
from portkit.typed.payload import Payload
from portkit.typed.router import Route, Router

__all__ = [
    "JSON",
    "Codec",
    "Data",
    "JSONCodec",
    "Payload",
    "Route",
    "Router",
    "View",
]
