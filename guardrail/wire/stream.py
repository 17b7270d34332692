"""What the streamed side of every dialect shares: events in, frames out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from guardrail.errors import WireError
from guardrail.types import Channel, Frame
from guardrail.wire.channels import Channels, Reading
from guardrail.wire.json import parse_object
from guardrail.wire.sse import SseDecoder, SseEvent, comment

__all__ = ["DONE", "SseStream", "every", "object_at"]

DONE = "[DONE]"
"""The end mark of OpenAI's streams; also the payload of its frame."""


def object_at(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the object at a key, or an empty one."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


class SseStream(ABC):
    """Base of the dialects' streams.

    A dialect says what one decoded event means (`read`), takes note of what was sent
    (`sent_payload`) and writes the closing frames.
    """

    __slots__ = ("_complete", "_decoder", "channels")

    def __init__(self) -> None:
        self._decoder = SseDecoder()
        self.channels = Channels()
        self._complete = False

    @abstractmethod
    def read(self, data: dict[str, Any], reading: Reading) -> tuple[Channel, ...]:
        """Read one event: texts into ``reading``; return the channels that end before them."""

    @abstractmethod
    def ended(self) -> tuple[Channel, ...]:
        """Return the channels that end with the event just read, its own text included."""

    @abstractmethod
    def event(self, name: str, data: Mapping[str, Any]) -> bytes:
        """Return an event without content that carries data; see `WireStream.event`."""

    @abstractmethod
    def sent_payload(self, payload: dict[str, Any]) -> None:
        """Take note of a decoded event that was written to the client."""

    @abstractmethod
    def sent_done(self) -> None:
        """Take note that the end mark was written to the client."""

    def feed(self, data: bytes) -> list[Frame]:
        """Decode bytes from upstream; see `WireStream.feed`."""
        return [self._frame(event) for event in self._decoder.feed(data)]

    def flush(self) -> list[Frame]:
        """Return what is left once upstream has closed; see `WireStream.flush`."""
        frames = []
        for event in self._decoder.flush():
            if event.cut:
                event = _mended(event)
            frames.append(self._frame(event) if not event.cut else Frame(event.raw, opaque=True))
        return frames

    def sent(self, frame: Frame) -> None:
        """Take note that a frame was written to the client."""
        if frame.payload == DONE:
            self.sent_done()
        elif isinstance(frame.payload, dict):
            self.sent_payload(frame.payload)

    def complete(self) -> bool:
        """Return whether the terminal frame has been read."""
        return self._complete

    def extra(self, name: str, data: Mapping[str, Any]) -> bytes:
        """Return a comment line; see `WireStream.extra`."""
        return comment(name, data)

    def finish(self) -> None:
        """Note that the terminal frame has been read."""
        self._complete = True

    def _frame(self, event: SseEvent) -> Frame:
        if not event.data:
            return Frame(event.raw, keepalive=not event.damaged, opaque=event.damaged)
        if event.data.strip() == DONE:
            self.finish()
            return Frame(event.raw, ends=self.channels.end(every), payload=DONE)
        try:
            data = parse_object(event.data, what="event", unique=False)
        except WireError:
            return Frame(event.raw, opaque=True)
        reading = Reading()
        before = self.read(data, reading)
        spans = tuple(self.channels.add(read) for read in reading.texts)
        ends = before + self.ended()
        opaque = reading.opaque or event.damaged or _misnamed(event, data)
        mute = reading.keepalive and not (spans or ends or opaque)
        return Frame(event.raw, spans, ends, mute, opaque, data)


def every(_: Channel) -> bool:
    """Match every channel, for `Channels.end`."""
    return True


def _misnamed(event: SseEvent, data: Mapping[str, Any]) -> bool:
    """Return whether the event's name and type differ: clients go by the one or the other."""
    kind = data.get("type")
    return event.name is not None and isinstance(kind, str) and kind != event.name


def _mended(event: SseEvent) -> SseEvent:
    """Complete an event that only lacked its blank line; leave one that was cut as it is."""
    if not event.data or event.damaged:
        return event
    if event.data.strip() != DONE:
        try:
            parse_object(event.data, what="event", unique=False)
        except WireError:
            return event
    ended = event.raw.endswith((b"\n", b"\r"))
    return SseEvent(event.raw + (b"\n" if ended else b"\n\n"), event.name, event.data)
