"""Anthropic Messages, streamed: events in, closing events out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guardrail.types import Channel, ChannelKind
from guardrail.wire.base import Notice, WireRequest
from guardrail.wire.channels import MAX_CHANNELS, OTHER, PROVIDER, Reading
from guardrail.wire.json import strings
from guardrail.wire.openai_common import model_of
from guardrail.wire.sse import write_event
from guardrail.wire.stream import SseStream, every, object_at

__all__ = ["MESSAGE", "AnthropicStream", "read_block", "stop_details"]

MESSAGE = frozenset(
    {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details",
     "usage", "container", "context_management", "error", "request_id", "diagnostics"}
)  # fmt: skip
"""Fields of a message that we read or that carry no text of the model."""

_CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_CALL_KNOWN = frozenset(
    {"type", "id", "name", "input", "caller", "server_name", "tool_use_id", PROVIDER}
)
_RESULT_LABELS = frozenset(
    {"type", "tool_use_id", "encrypted_content", "encrypted_index", "page_age", "file_id",
     "media_type", "error_code", "url"}
)  # fmt: skip


def stop_details(notice: Notice) -> dict[str, Any]:
    """Return the dialect's account of a refusal."""
    return {"type": "refusal", "category": None, "explanation": notice.message}


def read_block(index: int, block: object, reading: Reading) -> None:
    """Read one content block.

    Args:
        index: Its index in the message.
        block: The block; whatever is not an object makes the frame opaque.
        reading: Takes the texts.
    """
    if not isinstance(block, dict):
        reading.opaque = True
        return
    kind = str(block.get("type"))
    if kind == "text":
        reading.text(index, ChannelKind.TEXT, block.get("text"))
        reading.side(index, ChannelKind.TEXT, block.get("citations"))
        reading.check(block, ("type", "text", "citations"))
    elif kind == "thinking":
        reading.text(index, ChannelKind.REASONING, block.get("thinking"))
        reading.check(block, ("type", "thinking", "signature"))
    elif kind == "redacted_thinking":
        reading.check(block, ("type", "data"))  # encrypted for the API itself
    elif kind in _CALLS:
        reading.name(index, block.get("name"))
        reading.arguments(index, block.get("input"))
        reading.side(index, ChannelKind.TEXT, block.get(PROVIDER), OTHER)
        reading.check(block, _CALL_KNOWN)
    else:  # results of server tools, and whatever comes: all that can be read is judged
        reading.joined(index, ChannelKind.TOOL_RESULT, strings(block, _RESULT_LABELS))


class AnthropicStream(SseStream):
    """One streamed message.

    Args:
        request: The request that it answers.
    """

    __slots__ = (
        "_delta_sent", "_ending", "_head", "_next", "_open", "_request", "_started", "_stopped",
        "_text_sent", "_usage",
    )  # fmt: skip

    def __init__(self, request: WireRequest) -> None:
        super().__init__()
        self._request = request
        self._head: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._ending: int | None = None  # index of the block that the last event closed
        self._open: set[int] = set()
        self._next = 0
        self._started = self._text_sent = self._delta_sent = self._stopped = False

    def read(self, data: dict[str, Any], reading: Reading) -> tuple[Channel, ...]:
        """Read one event by its type."""
        self._ending = None
        kind = data.get("type")
        index = data.get("index")
        if kind in ("content_block_start", "content_block_delta", "content_block_stop"):
            if type(index) is not int or not 0 <= index < MAX_CHANNELS:
                reading.opaque = True
            else:
                self._read_block_event(str(kind), index, data, reading)
        elif kind == "message_start":
            self._read_start(object_at(data, "message"), reading)
            reading.check(data, ("type", "message"))
        elif kind == "message_delta":
            self._usage.update(object_at(data, "usage"))
            reading.check(data, ("type", "usage", "delta", "context_management"))
            reading.check(object_at(data, "delta"), MESSAGE - {"content"})
        else:
            reading.keepalive = kind == "ping"
            if kind == "error":
                reading.side(0, ChannelKind.TEXT, data.get("error"), OTHER)
            reading.check(data, ("type", "error", "request_id") if kind == "error" else ("type",))
        if kind == "message_stop":
            self.finish()
            return self.channels.end(every)
        return ()

    def _read_start(self, message: dict[str, Any], reading: Reading) -> None:
        self._head = {key: message[key] for key in ("id", "model") if message.get(key)}
        self._usage.update(object_at(message, "usage"))
        content = message.get("content") or []
        for index, block in enumerate(content if isinstance(content, list) else [None]):
            read_block(index, block, reading)
        reading.check(message, MESSAGE)

    def _read_block_event(
        self, kind: str, index: int, data: dict[str, Any], reading: Reading
    ) -> None:
        if kind == "content_block_stop":
            self._ending = index
            reading.check(data, ("type",))
        elif kind == "content_block_start":
            read_block(index, data.get("content_block"), reading)
            reading.check(data, ("type", "content_block"))
        else:
            _read_delta(index, object_at(data, "delta"), reading)
            reading.check(data, ("type", "delta"))

    def ended(self) -> tuple[Channel, ...]:
        """Return the channels of the block that the event closed."""
        index = self._ending
        return () if index is None else self.channels.end(lambda c: c.index == index)

    def sent_payload(self, payload: dict[str, Any]) -> None:
        """Note which blocks the client has, and which of them are open."""
        kind, index = payload.get("type"), payload.get("index")
        if kind == "message_start":
            self._started = True
            content = object_at(payload, "message").get("content")
            self._next = len(content) if isinstance(content, list) else 0
        elif kind == "content_block_start" and type(index) is int:
            self._open.add(index)
            self._next = max(self._next, index + 1)
        elif kind == "content_block_stop" and type(index) is int:
            self._open.discard(index)
        elif kind == "message_delta":
            self._delta_sent = True
        elif kind == "message_stop":
            self._stopped = True
        for field in ("delta", "content_block"):
            self._text_sent = self._text_sent or bool(object_at(payload, field).get("text"))

    def sent_done(self) -> None:
        """Nothing to note: the dialect has no end mark."""

    def event(self, name: str, data: Mapping[str, Any]) -> bytes:
        """Return a ping that carries data; see `WireStream.event`."""
        return write_event({"type": "ping", name: data}, name="ping")

    def refusal(self, notice: Notice) -> bytes:
        """Return the closing events of a blocked answer; see `WireStream.refusal`.

        The notice is a text block where no text was sent, and in any case the explanation in
        ``stop_details``.
        """
        if self._stopped:
            return b""
        events = [] if self._started else [self._start(notice)]
        events += [{"type": "content_block_stop", "index": i} for i in sorted(self._open)]
        if not self._delta_sent:
            if not self._text_sent:
                events += _text_block(self._next, notice.message)
            known = {k: v for k, v in self._usage.items() if isinstance(v, int)}
            delta = {
                "stop_reason": "refusal",
                "stop_sequence": None,
                "stop_details": stop_details(notice),
            }
            usage = {"output_tokens": 0, **known}
            events.append({"type": "message_delta", "delta": delta, "usage": usage})
        events.append({"type": "message_stop"})
        return b"".join(write_event(e, name=e["type"]) for e in events)

    def failure(self, message: str) -> bytes:
        """Return the error event of a broken answer; see `WireStream.failure`."""
        if self._stopped:
            return b""
        if self._delta_sent:
            return write_event({"type": "message_stop"}, name="message_stop")
        error = {"type": "error", "error": {"type": "api_error", "message": message}}
        return write_event(error, name="error")

    def _start(self, notice: Notice) -> dict[str, Any]:
        message = {
            "id": f"msg_{notice.request_id}",
            "type": "message",
            "role": "assistant",
            "model": model_of(self._request),
            **self._head,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0, **self._usage},
        }
        return {"type": "message_start", "message": message}


def _read_delta(index: int, delta: dict[str, Any], reading: Reading) -> None:
    kind = delta.get("type")
    if kind == "text_delta":
        reading.text(index, ChannelKind.TEXT, delta.get("text"))
        reading.check(delta, ("type", "text"))
    elif kind == "thinking_delta":
        reading.text(index, ChannelKind.REASONING, delta.get("thinking"))
        reading.check(delta, ("type", "thinking", "estimated_tokens"))
    elif kind == "input_json_delta":
        reading.text(index, ChannelKind.TOOL_ARGUMENTS, delta.get("partial_json"))
        reading.check(delta, ("type", "partial_json"))
    elif kind == "citations_delta":
        reading.side(index, ChannelKind.TEXT, delta.get("citation"))
        reading.check(delta, ("type", "citation"))
    elif kind == "signature_delta":
        reading.check(delta, ("type", "signature"))
    else:
        reading.check(delta, ("type",))


def _text_block(index: int, text: str) -> list[dict[str, Any]]:
    return [
        {
            "type": "content_block_start",
            "index": index,
            "content_block": {"type": "text", "text": ""},
        },
        {
            "type": "content_block_delta",
            "index": index,
            "delta": {"type": "text_delta", "text": text},
        },
        {"type": "content_block_stop", "index": index},
    ]
