"""Every parser of untrusted input as one function from bytes, with what it may raise.

`bench/fuzz.py` runs them by the million under coverage guidance; `test_seeds.py` runs them over
the inputs that are kept. A target raises `AssertionError`, or anything that its parser must not,
where a promise is broken.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from guardrail.classifier.bundle import Bundle
from guardrail.classifier.calibration import Calibration
from guardrail.errors import BundleError, PolicyError, SettingsError, WireError
from guardrail.policy import parse_policy
from guardrail.proxy.keys import read_keys
from guardrail.wire import WIRES, Notice, Wire
from guardrail.wire.base import WireRequest
from guardrail.wire.litellm_api import read_litellm
from guardrail.wire.moderations import read_moderation
from guardrail.wire.sse import SseDecoder

__all__ = ["TARGETS", "tree"]

Target = Callable[[bytes], None]

NOTICE: Final = Notice("no", ("unsafe",), "r", created=1)
KEYS: Final = (
    "messages", "role", "content", "type", "text", "name", "tool_calls", "function", "arguments",
    "id", "model", "stream", "prompt", "input", "system", "tools", "tool_use", "input_text",
    "choices", "delta", "message", "index", "finish_reason", "refusal", "reasoning_content",
    "output", "item", "item_id", "output_index", "content_index", "part", "summary", "response",
    "content_block", "partial_json", "thinking", "stop_reason", "usage", "error", "logprobs",
    "n", "suffix", "instructions", "status", "object", "data", "texts", "input_type", "categories",
    "unsafe", "flag", "block", "version", "rules", "roles", "failure", "patterns", "words",
)  # fmt: skip
STRINGS: Final = (
    "user", "assistant", "system", "tool", "text", "input_text", "output_text", "tool_result",
    "response.output_text.delta", "response.completed", "response.output_item.added",
    "content_block_delta", "content_block_start", "message_start", "message_stop", "text_delta",
    "chat.completion.chunk", "function_call", "reasoning", "stop", "hello there", "", "\ud800",
    "\u202e", "a" * 300,
)  # fmt: skip


def tree(data: bytes) -> bytes:
    """Read bytes as the choices that build a JSON document, so that mutation stays well-formed."""
    at = 0

    def pick(most: int) -> int:
        nonlocal at
        value = data[at] if at < len(data) else 0
        at += 1
        return value % most

    def value(depth: int) -> Any:
        kind = pick(9 if depth < 8 else 6)
        if kind < 2:
            return STRINGS[pick(len(STRINGS))]
        if kind < 6:
            return (None, True, pick(256) - 3, 1.5)[kind - 2]
        if kind == 6:
            return [value(depth + 1) for _ in range(pick(5))]
        return {KEYS[pick(len(KEYS))]: value(depth + 1) for _ in range(pick(7))}

    return json.dumps({KEYS[pick(len(KEYS))]: value(1) for _ in range(1 + pick(7))}).encode()


def _request(wire: Wire) -> Target:
    def run(data: bytes) -> None:
        try:
            request = wire.read_request(data)
        except WireError as error:
            str(error).encode()
            return
        assert request.raw == data
        for segment in request.segments:
            segment.text.encode()
        json.loads(wire.input_refusal(request, NOTICE).body) if not request.stream else None

    return run


def _response(wire: Wire) -> Target:
    def run(data: bytes) -> None:
        try:
            frame = wire.read_response(data)
        except WireError:
            return
        assert frame.raw == data
        for span in frame.spans:
            span.text.encode()
        json.loads(wire.output_refusal(WireRequest(b"{}", {}), data, NOTICE).body)

    return run


def _stream(wire: Wire) -> Target:
    def run(data: bytes) -> None:
        """Cut the stream into reads of the size that the first byte says."""
        size, data = (data[0] or 1, data[1:]) if data else (1, b"")
        stream = wire.open_stream(WireRequest(b"{}", {}, stream=True))
        raw = b""
        try:
            for at in range(0, len(data), size):
                for frame in stream.feed(data[at : at + size]):
                    raw += frame.raw
                    for span in frame.spans:
                        span.text.encode()
                    stream.sent(frame)
            last = stream.flush()
        except WireError:
            return
        whole = raw + b"".join(frame.raw for frame in last)
        assert whole.startswith(raw)
        assert raw == data[: len(raw)], "a frame's bytes are not the upstream's"
        stream.complete()
        assert stream.refusal(NOTICE).endswith(b"\n\n")

    return run


def _events(data: bytes) -> None:
    """Whole or byte by byte, the same events."""
    found = []
    for size in (len(data) or 1, 1):
        decoder = SseDecoder(4096)
        try:
            events = [
                e for at in range(0, len(data), size) for e in decoder.feed(data[at : at + size])
            ]
            events += decoder.flush()
        except WireError:
            events = None
        found.append(events if events is None else [(e.raw, e.name, e.data) for e in events])
    assert found[0] == found[1]


def _moderation(data: bytes) -> None:
    try:
        for one in read_moderation(data).inputs:
            one.text.encode()
    except WireError:
        return


def _litellm(data: bytes) -> None:
    try:
        read_litellm(data)
    except WireError:
        return


def _policy(data: bytes) -> None:
    try:
        policy = parse_policy(data)
    except PolicyError as error:
        str(error).encode("utf-8", "surrogateescape")
        return
    assert policy.identity


_FOLDER: Final = Path(tempfile.gettempdir()) / "guardrail-fuzz-bundle"


def _manifest(data: bytes) -> None:
    """A manifest in a folder whose files are not what it says, or are missing."""
    _FOLDER.mkdir(exist_ok=True)
    (_FOLDER / "manifest.json").write_bytes(data)
    try:
        Bundle.open(_FOLDER)
    except BundleError:
        return


def _calibration(data: bytes) -> None:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(parsed, dict):
        try:
            Calibration.from_json(parsed, ("unsafe", "hate"), "calibration.json")
        except BundleError:
            return


def _keys(data: bytes) -> None:
    _FOLDER.mkdir(exist_ok=True)
    file = _FOLDER / "keys.toml"
    file.write_bytes(data)
    try:
        read_keys(file)
    except SettingsError:
        return


def _shaped(target: Target) -> Target:
    return lambda data: target(tree(data))


_PARSERS: Final[dict[str, Target]] = {
    "sse": _events,
    **{f"stream-{name}": _stream(wire) for name, wire in WIRES.items()},
    **{f"request-{name}": _request(wire) for name, wire in WIRES.items()},
    **{f"response-{name}": _response(wire) for name, wire in WIRES.items()},
    "moderations": _moderation,
    "litellm": _litellm,
    "policy": _policy,
    "manifest": _manifest,
    "calibration": _calibration,
    "keys": _keys,
}
_SHAPES: Final = {
    f"{name}:tree": _shaped(target)
    for name, target in _PARSERS.items()
    if name.startswith(("request", "response", "moder", "litellm", "policy"))
}
TARGETS: Final = MappingProxyType({**_PARSERS, **_SHAPES})
"""Targets by name; those that end in ``:tree`` read the bytes as choices that build JSON."""
