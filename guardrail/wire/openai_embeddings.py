"""OpenAI embeddings: texts in, numbers out.

Written from https://platform.openai.com/docs/api-reference/embeddings. The answer has no text,
and the dialect has neither streams nor refusals in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from guardrail.errors import WireError
from guardrail.types import Channel, ChannelKind, Frame, Role
from guardrail.wire.base import Notice, Reply, WireRequest
from guardrail.wire.channels import OTHER, Reading, whole_frame
from guardrail.wire.json import carries_text, parse_object, strings
from guardrail.wire.openai_common import OpenAIErrors, error_body, refusal_error
from guardrail.wire.openai_completions import read_texts
from guardrail.wire.segments import SegmentList, read_body, request_of
from guardrail.wire.sse import write_event
from guardrail.wire.stream import DONE, SseStream

__all__ = ["EmbeddingsStream", "OpenAIEmbeddings"]

_FIELDS = frozenset({"input", "model", "stream"})
_SETTINGS = _FIELDS | {"encoding_format", "dimensions", "user", "input_type", "truncate"}
_ANSWER = frozenset({"object", "data", "model", "usage", "id", "created", "error", "timings"})
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_ITEM = frozenset({"object", "index"})


class EmbeddingsStream(SseStream):
    """A streamed answer, which the dialect does not have: all text in it is of unknown shape.

    Args:
        request: The request that it answers.
    """

    __slots__ = ("_done",)

    def __init__(self, request: WireRequest) -> None:  # noqa: ARG002  (every stream is opened so)
        super().__init__()
        self._done = False

    def read(self, data: dict[str, Any], reading: Reading) -> tuple[Channel, ...]:
        """Mark every event with text as opaque, but for errors."""
        reading.check(data, ("error",))
        reading.side(0, ChannelKind.TEXT, data.get("error"), OTHER)
        return ()

    def ended(self) -> tuple[Channel, ...]:
        """Return nothing: there are no channels."""
        return ()

    def sent_payload(self, payload: dict[str, Any]) -> None:
        """Nothing to note."""

    def sent_done(self) -> None:
        """Note that the client has the end mark."""
        self._done = True

    def event(self, name: str, data: Mapping[str, Any]) -> bytes:
        """Return a comment: the dialect has no events of its own."""
        return self.extra(name, data)

    def refusal(self, notice: Notice) -> bytes:
        """Return an error event, the only form there is, and the end mark."""
        return self._error(notice.message, "content_filter")

    def failure(self, message: str) -> bytes:
        """Return an error event and the end mark."""
        return self._error(message, "upstream_error")

    def _error(self, message: str, code: str) -> bytes:
        if self._done:
            return b""
        return write_event(error_body(message, type_="server_error", code=code)) + write_event(DONE)


class OpenAIEmbeddings(OpenAIErrors):
    """``/v1/embeddings``."""

    name = "openai.embeddings"
    paths = ("/v1/embeddings",)

    def read_request(self, body: bytes) -> WireRequest:
        """Read a request body; see `Wire.read_request`."""
        return request_of(body, read_body(body, _FIELDS), _read)

    def read_response(self, body: bytes) -> Frame:
        """Read a whole answer: vectors, as numbers or base64; see `Wire.read_response`."""
        payload = parse_object(body, what="answer", unique=False)
        reading = Reading()
        reading.check(payload, _ANSWER)
        reading.side(0, ChannelKind.TEXT, payload.get("error"), OTHER)
        data = payload.get("data")
        for item in data if isinstance(data, list) else []:
            known = isinstance(item, dict) and not carries_text(item, _ITEM | {"embedding"})
            if not (known and _is_vector(item.get("embedding"))):
                reading.opaque = True
        reading.opaque = reading.opaque or not isinstance(data, list | None)
        return whole_frame(body, reading, payload)

    def open_stream(self, request: WireRequest) -> EmbeddingsStream:
        """Return the decoder for a streamed answer."""
        return EmbeddingsStream(request)

    def input_refusal(self, request: WireRequest | None, notice: Notice) -> Reply:  # noqa: ARG002
        """Return an error in any style: a vector cannot tell the user anything."""
        return refusal_error(notice, "input")

    def output_refusal(self, request: WireRequest, body: bytes, notice: Notice) -> Reply:  # noqa: ARG002
        """Return an error for an answer that cannot be passed on."""
        return refusal_error(notice, "input")


def _is_vector(value: object) -> bool:
    """Return whether a value is base64, or numbers, nested where a server does not pool."""
    if isinstance(value, str):
        return _BASE64.fullmatch(value) is not None
    return isinstance(value, list) and next(strings(value), None) is None


def _read(payload: dict[str, Any], out: SegmentList) -> None:
    if payload.get("input") is None:
        raise WireError("input must be a string or a list of strings", param="input")
    read_texts(payload["input"], "input", out)
    out.unknown(payload, _SETTINGS, Role.TEXT)
