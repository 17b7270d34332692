"""OpenAI Responses, streamed: events in.

The protocol says every text several times: in deltas, in ``*.done`` events, in finished items and
in the finished response. A repeat of what the deltas said is no new text, which is checked by
hash; whatever differs is new text and is judged in full.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from guardrail.types import Channel, ChannelKind
from guardrail.wire.base import SIDE, Notice, WireRequest
from guardrail.wire.channels import MAX_CHANNELS, OTHER, PROVIDER, Reading
from guardrail.wire.json import is_coded, strings
from guardrail.wire.openai_common import read_logprobs
from guardrail.wire.responses_closing import ItemPlaces, SentResponse
from guardrail.wire.sse import write_event
from guardrail.wire.stream import SseStream, every, object_at

__all__ = ["SUMMARY", "ResponsesStream", "read_item", "read_response_object"]

SUMMARY = 1 << 10
"""Added to the index of a reasoning summary part, beside reasoning content parts."""

_ARGUMENTS, _RESULT = ChannelKind.TOOL_ARGUMENTS, ChannelKind.TOOL_RESULT
_TEXT, _REASONING = ChannelKind.TEXT, ChannelKind.REASONING


class _Piece(NamedTuple):
    kind: ChannelKind
    sub: str | None  # the field with the second index
    base: int
    field: str  # the field with the whole text in the ``done`` event


_PIECES = {
    "output_text": _Piece(_TEXT, "content_index", 0, "text"),
    "refusal": _Piece(ChannelKind.REFUSAL, "content_index", 0, "refusal"),
    "reasoning_text": _Piece(_REASONING, "content_index", 0, "text"),
    "reasoning_summary_text": _Piece(_REASONING, "summary_index", SUMMARY, "text"),
    "function_call_arguments": _Piece(_ARGUMENTS, None, 0, "arguments"),
    "mcp_call_arguments": _Piece(_ARGUMENTS, None, 0, "arguments"),
    "custom_tool_call_input": _Piece(_ARGUMENTS, None, 0, "input"),
    "code_interpreter_call_code": _Piece(_ARGUMENTS, None, 0, "code"),
    "shell_call_command": _Piece(_ARGUMENTS, "command_index", 0, "command"),
    "shell_call_output_content": _Piece(_RESULT, "command_index", 0, "output"),
    "audio.transcript": _Piece(_TEXT, None, SIDE + 2, "transcript"),
    "audio_transcript": _Piece(_TEXT, None, SIDE + 2, "transcript"),
}
_LIFECYCLE = frozenset({"created", "queued", "in_progress", "completed", "failed", "incomplete"})
_TERMINAL = frozenset({"completed", "failed", "incomplete"})
_EVENT = frozenset({"type", "item_id", "obfuscation"})
_ITEM_LABELS = frozenset(
    {"type", "id", "call_id", "status", "encrypted_content", "container_id", "file_id",
     "server_label", "approval_request_id", "url", "background", "output_format", "quality", "size"}
)  # fmt: skip
_CALLS = frozenset({"function_call", "custom_tool_call", "mcp_call", "mcp_approval_request"})
_CALL = frozenset(
    {"type", "id", "call_id", "status", "name", "namespace", "server_label", "arguments", "input",
     "output", "error", "approval_request_id", "caller", PROVIDER}
)  # fmt: skip
_MESSAGE = frozenset({"type", "id", "status", "role", "phase", "content"})
_PART = frozenset({"type", "text", "refusal", "annotations", "logprobs"})
_INPUTS = frozenset(
    {"input_text", "input_image", "input_file", "input_audio", "computer_screenshot"}
)
"""Parts of what a user said, as compacted conversations and lists of items give them back."""
_MEDIA = frozenset(
    {"image_url", "file_url", "file_id", "file_data", "filename", "detail", "input_audio",
     "prompt_cache_breakpoint"}
)  # fmt: skip
_CODED = re.compile(r"data:[\w/+.-]*;base64,[\w/+=-]*", re.ASCII)
"""A picture or file that stands in its own URL (RFC 2397), as tools' outputs give them back."""
_REASONING_ITEM = frozenset(
    {"type", "id", "status", "summary", "content", "encrypted_content", "role"}
)
_RESPONSE = frozenset(
    {"id", "object", "created_at", "completed_at", "status", "background", "error",
     "incomplete_details", "instructions", "max_output_tokens", "max_tool_calls", "metadata",
     "model", "output", "output_text", "parallel_tool_calls", "previous_response_id", "prompt",
     "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "reasoning",
     "safety_identifier", "service_tier", "store", "temperature", "text", "tool_choice", "tools",
     "tool_usage", "top_logprobs", "top_p", "truncation", "usage", "user", "conversation",
     "moderation", "billing", "content_filters", "timings", "presence_penalty",
     "frequency_penalty", PROVIDER}
)  # fmt: skip


def read_response_object(response: dict[str, Any], reading: Reading) -> None:
    """Read a response object: its items, and the text that some servers add beside them.

    Args:
        response: The object.
        reading: Takes the texts.
    """
    output = response.get("output")
    if isinstance(output, list):
        for index, item in enumerate(output[:MAX_CHANNELS]):
            read_item(index, item, reading)
        reading.opaque = reading.opaque or len(output) > MAX_CHANNELS
    else:
        reading.opaque = reading.opaque or output is not None
    for text in strings(response.get("output_text")):
        reading.beside(0, _TEXT, text)
    for field in ("error", PROVIDER):
        reading.side(0, _TEXT, response.get(field), OTHER)
    reading.check(response, _RESPONSE)


def read_item(index: int, item: object, reading: Reading) -> None:
    """Read one output item.

    Args:
        index: Its output index.
        item: The item; whatever is not an object makes the frame opaque.
        reading: Takes the texts.
    """
    if not isinstance(item, dict):
        reading.opaque = True
        return
    kind = str(item.get("type"))
    if kind == "message":
        _read_parts(index, item.get("content"), 0, reading)
        reading.check(item, _MESSAGE)
    elif kind == "reasoning":
        _read_parts(index, item.get("summary"), SUMMARY, reading)
        _read_parts(index, item.get("content"), 0, reading)
        sealed = item.get("encrypted_content")
        if not (isinstance(sealed, str) and is_coded(sealed)):
            reading.text(index, _REASONING, sealed, OTHER)
        reading.check(item, _REASONING_ITEM)
    elif kind in _CALLS:
        reading.name(index, item.get("name"))
        reading.arguments(index, item.get("arguments"))
        reading.arguments(index, item.get("input"))
        for field in ("output", "error"):
            reading.joined(index, _RESULT, strings(item.get(field), _ITEM_LABELS))
        reading.side(index, _TEXT, item.get(PROVIDER), OTHER)
        reading.check(item, _CALL)
    elif kind == "image_generation_call":
        reading.check(item, _ITEM_LABELS)  # a picture cannot be judged
    elif kind == "code_interpreter_call":
        reading.arguments(index, item.get("code"))
        reading.joined(index, _RESULT, strings(item.get("outputs"), _ITEM_LABELS))
        reading.check(item, _ITEM_LABELS | {"code", "outputs"})
    else:  # server tools, and whatever comes: all that can be read is judged
        told = (text for text in strings(item, _ITEM_LABELS) if not _CODED.fullmatch(text))
        reading.joined(index, _RESULT, told, SIDE)


def _read_parts(index: int, parts: object, base: int, reading: Reading) -> None:
    if not isinstance(parts, list):
        reading.opaque = reading.opaque or parts is not None
        return
    for sub, part in enumerate(parts[:SUMMARY]):
        _read_part(index, base + sub, part, reading)
    reading.opaque = reading.opaque or len(parts) > SUMMARY


def _read_part(index: int, sub: int, part: object, reading: Reading) -> None:
    if not isinstance(part, dict):
        reading.opaque = True
        return
    kind = str(part.get("type"))
    thought = kind in ("reasoning_text", "summary_text") or sub >= SUMMARY
    reading.text(index, _REASONING if thought else _TEXT, part.get("text"), sub)
    reading.text(index, ChannelKind.REFUSAL, part.get("refusal"), sub)
    reading.side(index, _TEXT, part.get("annotations"), SIDE + 1)
    read_logprobs(index, {"content": part.get("logprobs")}, reading)
    reading.check(part, _PART if kind not in _INPUTS else _PART | _MEDIA)


class _Repeats:
    """Which texts have been said, by hash."""

    def __init__(self) -> None:
        self._running: dict[Channel, Any] = {}
        self._whole: set[tuple[ChannelKind, bytes]] = set()

    def add(self, channel: Channel, text: str) -> None:
        """Take note of a delta."""
        if channel not in self._running:
            self._running[channel] = blake2b(digest_size=16)
        self._running[channel].update(text.encode("utf-8", "surrogatepass"))

    def new(self, kind: ChannelKind, text: str) -> bool:
        """Return whether a whole text is not yet known in channels of this kind; note it."""
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = (kind, digest) in self._whole or any(
            channel.kind is kind and running.digest() == digest
            for channel, running in self._running.items()
        )
        if not known:
            self._whole.add((kind, digest))
        return not known


class ResponsesStream(SseStream):
    """One streamed response.

    Args:
        request: The request that it answers.
    """

    __slots__ = ("_ending", "_places", "_repeats", "_sent")

    def __init__(self, request: WireRequest) -> None:
        super().__init__()
        self._repeats = _Repeats()
        self._places = ItemPlaces()
        self._sent = SentResponse(request.model)
        self._ending: Callable[[Channel], bool] | None = None

    def read(self, data: dict[str, Any], reading: Reading) -> tuple[Channel, ...]:
        """Read one event by its type."""
        self._ending = None
        name = str(data.get("type")).removeprefix("response.")
        stem, _, verb = name.rpartition(".")
        piece = _PIECES.get(stem)
        if piece is not None and verb in ("delta", "done"):
            self._read_piece(piece, verb, data, reading)
        elif name in _LIFECYCLE:
            self._read_lifecycle(name, data, reading)
        elif stem in ("output_item", "content_part", "reasoning_summary_part"):
            self._read_container(stem, verb, data, reading)
        elif name == "output_text.annotation.added":
            index = self._item_index(data, reading)
            reading.side(index, _TEXT, data.get("annotation"), SIDE + 1)
            reading.check(data, _EVENT | {"annotation"})
        elif name == "error":
            own = Reading()
            own.side(0, _TEXT, [data.get(f) for f in ("message", "error", "code", "param")], OTHER)
            self._take_new(own, reading)
            reading.check(data, _EVENT | {"code", "message", "param", "error"})
        else:
            reading.keepalive = name in ("ping", "keepalive")
            reading.check(data, _EVENT)
        return ()

    def ended(self) -> tuple[Channel, ...]:
        """Return the channels that the event closed."""
        return () if self._ending is None else self.channels.end(self._ending)

    def _item_index(self, data: dict[str, Any], reading: Reading) -> int:
        return _sane(self._places.index(data), reading)

    def _read_piece(self, piece: _Piece, verb: str, data: dict[str, Any], reading: Reading) -> None:
        index = self._item_index(data, reading)
        sub = piece.base + (_index(data, piece.sub, reading) if piece.sub else 0)
        field = "delta" if verb == "delta" else piece.field
        value = data.get(field)
        if isinstance(value, dict | list):
            value = "".join(strings(value, ("type",)))
        channel = Channel(index, piece.kind, sub)
        if verb == "delta":
            reading.text(index, piece.kind, value, sub)
            if isinstance(value, str):
                self._repeats.add(channel, value)
        else:
            self._ending = lambda c: c == channel
            if not (isinstance(value, str) and not self._repeats.new(piece.kind, value)):
                reading.text(index, piece.kind, value, sub)
        if verb == "delta":
            read_logprobs(index, {"content": data.get("logprobs")}, reading)
        reading.check(data, _EVENT | {field, "logprobs", "name", "call_id"})
        reading.name(index, data.get("name"))

    def _read_container(self, stem: str, verb: str, data: dict[str, Any], reading: Reading) -> None:
        index = self._item_index(data, reading)
        own = Reading()
        if stem == "output_item":
            read_item(index, data.get("item"), own)
            reading.check(data, _EVENT | {"item"})
            ending: Callable[[Channel], bool] = lambda c: c.index == index  # noqa: E731
        else:
            summary = stem == "reasoning_summary_part"
            sub = _index(data, "summary_index" if summary else "content_index", reading)
            sub += SUMMARY if summary else 0
            _read_part(index, sub, data.get("part"), own)
            reading.check(data, _EVENT | {"part"})
            ending = lambda c: (c.index, c.sub) == (index, sub)  # noqa: E731
        self._take_new(own, reading)
        if verb == "done":
            self._ending = ending

    def _read_lifecycle(self, name: str, data: dict[str, Any], reading: Reading) -> None:
        own = Reading()
        response = object_at(data, "response")
        read_response_object(response, own)
        self._take_new(own, reading)
        self._sent.saw({key: response[key] for key in response if key in _RESPONSE})
        reading.check(data, _EVENT | {"response", "timings"})
        if name in _TERMINAL:
            self.finish()
            self._ending = every

    def _take_new(self, own: Reading, reading: Reading) -> None:
        """Add what ``own`` has and nobody said before."""
        reading.opaque = reading.opaque or own.opaque
        reading.texts += [s for s in own.texts if self._repeats.new(s.channel.kind, s.text)]

    def sent_payload(self, payload: dict[str, Any]) -> None:
        """Note what the client has."""
        self._sent.note(payload)

    def sent_done(self) -> None:
        """Nothing to note: the dialect has no end mark."""

    def event(self, name: str, data: Mapping[str, Any]) -> bytes:
        """Return a keep-alive that carries data; see `WireStream.event`."""
        return write_event({"type": "keepalive", name: data}, name="keepalive")

    def refusal(self, notice: Notice) -> bytes:
        """Return the closing events of a blocked answer; see `WireStream.refusal`."""
        return self._sent.refusal(notice)

    def failure(self, message: str) -> bytes:
        """Return the closing events of a broken answer; see `WireStream.failure`."""
        return self._sent.failure(message)


def _index(data: dict[str, Any], key: str, reading: Reading) -> int:
    return _sane(data.get(key, 0), reading)


def _sane(value: object, reading: Reading) -> int:
    if type(value) is int and 0 <= value < MAX_CHANNELS:
        return value
    reading.opaque = True
    return 0
