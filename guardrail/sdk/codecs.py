"""Codecs: from the items of a stream to frames, and back to what the consumer gets.

A codec serves one stream. It knows neither asyncio nor policies: it is told what to say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from guardrail.errors import WireError
from guardrail.sdk.adapters import EMPTY_REQUEST, as_plain, dialect_of, dump_plain
from guardrail.types import Channel, Edits, Frame, Span
from guardrail.wire import Notice, Wire, WireStream
from guardrail.wire.rewrite import edit_event
from guardrail.wire.sse import SseDecoder
from guardrail.wire.stream import DONE

__all__ = ["AnyCodec", "ByteCodec", "Codec", "EventCodec", "TextCodec"]

T = TypeVar("T")
_CHANNEL = Channel()


class Codec(Protocol[T]):
    """What a guarded stream needs to know about its items."""

    def frames(self, item: T) -> Sequence[Frame]:
        """Return what an item says.

        Raises:
            TypeError: The item is of no known kind.
            WireError: It is not what its API says.
        """
        ...

    def flush(self) -> Sequence[Frame]:
        """Return what is left once the source has ended.

        Raises:
            WireError: The source ended too early.
        """
        ...

    def items(self, frames: Sequence[Frame]) -> Iterable[T]:
        """Return what the consumer gets for cleared frames."""
        ...

    def edit(self, frame: Frame, edits: Edits, other: Callable[[str], str]) -> Frame | None:
        """Return a frame with other texts; see `guardrail.redact.EditFrame`."""
        ...

    def refusal(self, notice: Notice) -> Iterable[T]:
        """Return the items that end a blocked stream.

        Raises:
            TypeError: Items of this kind cannot be made up.
        """
        ...


class TextCodec(Generic[T]):
    """Items that are text, or have text.

    Args:
        read: Returns the text of an item.
        make: Makes an item of a text, for a refusal; None where that cannot be done.
    """

    def __init__(self, read: Callable[[T], str], make: Callable[[str], T] | None) -> None:
        self._read = read
        self._make = make

    def frames(self, item: T) -> Sequence[Frame]:
        """Return one frame; see `Codec.frames`."""
        text = self._read(item)
        spans = (Span(_CHANNEL, text),) if text else ()
        return (Frame(text.encode("utf-8", "surrogatepass"), spans, payload=item),)

    def flush(self) -> Sequence[Frame]:
        """Return nothing: text has no end mark."""
        return ()

    def items(self, frames: Sequence[Frame]) -> Iterable[T]:
        """Return the items of the frames."""
        return [frame.payload for frame in frames]  # type: ignore[misc]

    def edit(
        self,
        frame: Frame,
        edits: Edits,
        other: Callable[[str], str],  # noqa: ARG002
    ) -> Frame | None:
        """Return a frame with another text, where an item can be made of one."""
        changed = [shown for (_, text), shown in edits.items() if shown != text]
        if not changed:
            return frame
        return None if self._make is None else replace(frame, payload=self._make(changed[0]))

    def refusal(self, notice: Notice) -> Iterable[T]:
        """Return the notice as one item."""
        if self._make is None:
            raise TypeError("on_block: items of this stream cannot be made up; give a function")
        return [self._make(notice.message)]


class EventCodec:
    """Chunks or events of an API, as objects or dicts.

    Args:
        stream: The decoder of their dialect.
    """

    def __init__(self, stream: WireStream) -> None:
        self._stream = stream
        self._last: Any = None

    def frames(self, item: Any) -> Sequence[Frame]:
        """Return what an event says, read as its API would have sent it."""
        self._last = item
        data = dump_plain(as_plain(item))
        frames = self._stream.feed(b"data: " + data + b"\n\n")
        return [replace(frame, payload=(item, frame)) for frame in frames]

    def flush(self) -> Sequence[Frame]:
        """Return nothing: objects come whole."""
        return ()

    def items(self, frames: Sequence[Frame]) -> Iterable[Any]:
        """Return the objects as they came."""
        out = []
        for frame in frames:
            pair: Any = frame.payload
            self._stream.sent(pair[1])
            out.append(pair[0])
        return out

    def edit(self, frame: Frame, edits: Edits, other: Callable[[str], str]) -> Frame | None:
        """Return a frame with other texts; its object is made anew, of the same type."""
        pair: Any = frame.payload
        item, inner = pair
        made = edit_event(inner, edits, other)
        if made is None or made is inner:
            return None if made is None else frame
        make = getattr(type(item), "model_validate", None)
        if make is None and not isinstance(item, dict):
            return None
        new = made.payload if make is None else make(made.payload)
        return replace(frame, payload=(new, made))

    def refusal(self, notice: Notice) -> Iterable[Any]:
        """Return closing chunks of the same type as the last one."""
        kind = type(self._last)
        make = dict if isinstance(self._last, dict) else getattr(kind, "model_validate", None)
        if make is None:
            raise TypeError(f"on_block: a {kind.__name__} cannot be made up; give a function")
        return [make(payload) for payload in _payloads(self._stream.refusal(notice))]


def _payloads(data: bytes) -> list[dict[str, Any]]:
    texts = [event.data or "" for event in SseDecoder().feed(data)]
    decoded = [json.loads(text) for text in texts if text.strip() not in ("", DONE)]
    return [value for value in decoded if isinstance(value, dict)]


class ByteCodec:
    """The bytes of a streamed HTTP answer.

    Args:
        stream: The decoder of its dialect.
    """

    def __init__(self, stream: WireStream) -> None:
        self._stream = stream

    def frames(self, item: bytes) -> Sequence[Frame]:
        """Return the frames that the bytes complete."""
        return self._stream.feed(item)

    def flush(self) -> Sequence[Frame]:
        """Return a last frame that lacked its blank line; one that was cut is dropped."""
        return [frame for frame in self._stream.flush() if not frame.opaque]

    def items(self, frames: Sequence[Frame]) -> Iterable[bytes]:
        """Return the original bytes."""
        for frame in frames:
            self._stream.sent(frame)
        return [b"".join(frame.raw for frame in frames)]

    def edit(self, frame: Frame, edits: Edits, other: Callable[[str], str]) -> Frame | None:
        """Return a frame with other texts."""
        return edit_event(frame, edits, other)

    def refusal(self, notice: Notice) -> Iterable[bytes]:
        """Return the closing frames of the dialect."""
        return [self._stream.refusal(notice)]


class AnyCodec:
    """Picks the codec by the first item: text, or chunks of a known API.

    Args:
        read: Returns the text of an item, where the items are of another kind.
    """

    def __init__(self, read: Callable[[Any], str] | None = None) -> None:
        self._codec: Codec[Any] | None = TextCodec(read, None) if read is not None else None

    def frames(self, item: Any) -> Sequence[Frame]:
        """Return what an item says; see `Codec.frames`."""
        if self._codec is None:
            self._codec = _pick(item)
        return self._codec.frames(item)

    def flush(self) -> Sequence[Frame]:
        """Return what is left."""
        return self._codec.flush() if self._codec is not None else ()

    def items(self, frames: Sequence[Frame]) -> Iterable[Any]:
        """Return what the consumer gets."""
        return self._codec.items(frames) if self._codec is not None else ()

    def edit(self, frame: Frame, edits: Edits, other: Callable[[str], str]) -> Frame | None:
        """Return a frame with other texts."""
        return self._codec.edit(frame, edits, other) if self._codec is not None else frame

    def refusal(self, notice: Notice) -> Iterable[Any]:
        """Return the items that end a blocked stream."""
        return self._codec.refusal(notice) if self._codec is not None else ()


def _pick(item: object) -> Codec[Any]:
    if isinstance(item, str):
        return TextCodec[str](_same, _same)
    if isinstance(item, bytes) and (found := _dialect_of_events(item)) is not None:
        return ByteCodec(found.open_stream(EMPTY_REQUEST))
    plain = as_plain(item)
    wire = dialect_of(plain) if isinstance(plain, dict) else None
    if wire is None:
        raise TypeError(
            f"cannot judge a stream of {type(item).__name__}: pass a function that returns the "
            "text of an item"
        )
    return EventCodec(wire.open_stream(EMPTY_REQUEST))


def _dialect_of_events(data: bytes) -> Wire | None:
    """Return the dialect of an event stream by its first event; LiteLLM hands out Anthropic's."""
    try:
        first = next(iter(_payloads(data)), {})
    except (ValueError, WireError):
        return None
    return dialect_of(first)


def _same(text: str) -> str:
    return text
