"""Text that an answer carries, sorted into channels.

`Reading` collects what one frame says; `Channels` follows a stream across frames and knows which
channels are open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from guardrail.errors import WireError
from guardrail.types import Channel, ChannelKind, Frame, Span
from guardrail.wire.base import SIDE
from guardrail.wire.json import carries_text, clean, dump, is_plain, parse_object, strings

__all__ = ["MAX_CHANNELS", "OTHER", "PROVIDER", "Channels", "Reading", "read_error", "whole_frame"]

OTHER = SIDE + 3
"""`Channel.sub` of errors, in which some servers quote the model, and of `PROVIDER`."""

PROVIDER = "provider_specific_fields"
"""Where LiteLLM keeps what OpenAI's dialects have no field for: citations, signed thoughts."""

MAX_CHANNELS = 512
"""Bound on the channels of one answer; 128 choices is the most that an API offers."""

_RESUMED = 1 << 24  # added to `sub` each time that a channel resumes after its end
_TAIL_CHARS = 200  # what a resumed channel repeats: more than the longest planted phrase tested

_LABELS = frozenset(
    {"type", "id", "format", "signature", "thought_signature", "thought_signatures", "status",
     "encrypted_content", "encrypted_index", "file_id", "item_id"}
)  # fmt: skip


class Reading:
    """What one frame, or one whole answer, says.

    Attributes:
        texts: Text by channel, in order, as if no channel had ended before.
        opaque: Whether something has a shape that we do not know and may carry text.
        keepalive: Whether it is a ping.
    """

    __slots__ = ("keepalive", "opaque", "texts")

    def __init__(self) -> None:
        self.texts: list[Span] = []
        self.opaque = False
        self.keepalive = False

    def text(self, index: int, kind: ChannelKind, value: object, sub: int = 0) -> None:
        """Add a text field; null is nothing, and any other type makes the frame opaque.

        Args:
            index: Choice or item index.
            kind: What the text is.
            value: The field's value.
            sub: Second index.
        """
        if isinstance(value, str):
            if value:
                self.texts.append(Span(Channel(index, kind, sub), clean(value)))
        elif value is not None:
            self.opaque = True

    def joined(
        self,
        index: int,
        kind: ChannelKind,
        parts: Iterable[str],
        sub: int = 0,
        by: str = "\n",
    ) -> None:
        """Add one text made of several strings of the frame.

        Args:
            index: Choice or item index.
            kind: What the text is.
            parts: The strings, as `strings` yields them.
            sub: Second index.
            by: What stands between them.
        """
        pieces: list[tuple[int, int]] = []
        at = 0
        for part in (parts := list(parts)):
            pieces.append((at, at + len(part)))
            at += len(part) + len(by)
        if parts:
            several = tuple(pieces) if len(parts) > 1 else ()
            self.texts.append(Span(Channel(index, kind, sub), by.join(parts), several))

    def name(self, index: int, value: object, sub: int = 0) -> None:
        """Add the name of a tool to its arguments, unless it is a plain identifier."""
        if not (isinstance(value, str) and is_plain(value)):
            self.text(index, ChannelKind.TOOL_ARGUMENTS, value, sub)

    def arguments(self, index: int, value: object, sub: int = 0) -> None:
        """Add tool arguments: text, or an object as some servers send it."""
        if isinstance(value, dict | list):
            value = dump(value).decode() if value else None
        self.text(index, ChannelKind.TOOL_ARGUMENTS, value, sub)

    def side(self, index: int, kind: ChannelKind, value: object, sub: int = SIDE) -> None:
        """Add text that stands beside the main text, unless the frame has it already.

        Args:
            index: Choice or item index.
            kind: What the text is.
            value: Any JSON; every string in it counts, labels apart.
            sub: Second index.
        """
        said = list(strings(value, _LABELS))
        if said:  # most often there is nothing, and to look through all texts has its price
            had = {span.text for span in self.texts if span.channel.index == index}
            self.joined(index, kind, (text for text in said if text not in had), sub)

    def beside(self, index: int, kind: ChannelKind, text: str, sub: int = SIDE) -> None:
        """Add a text unless it is part of one that the frame has already."""
        text = clean(text)
        if text and not any(text in s.text for s in self.texts if s.channel.index == index):
            self.texts.append(Span(Channel(index, kind, sub), text))

    def check(self, obj: Mapping[str, Any], known: Collection[str]) -> None:
        """Make the frame opaque if an object has a string outside its known keys."""
        if not self.opaque and carries_text(obj, known):
            self.opaque = True


def whole_frame(raw: bytes, reading: Reading, payload: object) -> Frame:
    """Return a whole answer as one frame in which every channel ends.

    Args:
        raw: The body.
        reading: What it says.
        payload: The decoded body.
    """
    # What is edited in it is read again, and needs no pieces.
    spans = tuple(Span(span.channel, span.text) for span in reading.texts)
    ends = tuple(dict.fromkeys(span.channel for span in spans))
    return Frame(raw, spans, ends, opaque=reading.opaque, payload=payload)


def read_error(body: bytes) -> Frame:
    """Return an error body of any shape as one frame: some servers quote the model in it.

    Args:
        body: The body: JSON, or a page of text.
    """
    reading = Reading()
    try:
        payload: object = parse_object(body, what="error", unique=False)
    except WireError:
        payload = body.decode("utf-8", "replace")
    reading.side(0, ChannelKind.TEXT, payload)
    return whole_frame(body, reading, payload)


@dataclass(slots=True)
class _Run:
    channel: Channel
    tail: str = ""
    resumed: bool = False


class Channels:
    """Which channels of a stream are open.

    A channel that resumes after its end goes on as a channel of its own, whose first text
    repeats the tail of the ended one: so nobody continues what was closed, and a phrase cut by
    the end is still seen whole.
    """

    __slots__ = ("_count", "_ended", "_open")

    def __init__(self) -> None:
        self._open: dict[Channel, _Run] = {}
        self._ended: dict[Channel, _Run] = {}
        self._count = 0

    def add(self, read: Span) -> Span:
        """Return the span of a text.

        Args:
            read: What is added, in the channel as the dialect names it.

        Raises:
            WireError: More than `MAX_CHANNELS` channels.
        """
        run, head = self._open.get(read.channel), ""
        if run is None:
            run = self._start(read.channel)
            head = run.tail
        run.tail = (run.tail + read.text)[-_TAIL_CHARS:]
        own = read.pieces
        if head:
            at = len(head)
            own = tuple((at + start, at + end) for start, end, _ in read.strings())
        return Span(run.channel, head + read.text, own)

    def _start(self, channel: Channel) -> _Run:
        self._count += 1
        if self._count > MAX_CHANNELS:
            raise WireError(f"the answer has more than {MAX_CHANNELS} channels")
        before = self._ended.pop(channel, None)
        if before is None:
            run = _Run(channel)
        else:
            sub = before.channel.sub + _RESUMED
            resumed = Channel(channel.index, channel.kind, sub)
            run = _Run(resumed, before.tail, resumed=True)
        self._open[channel] = run
        return run

    def end(self, which: Callable[[Channel], bool], *, early: bool = False) -> tuple[Channel, ...]:
        """End open channels.

        Args:
            which: Tells which, by the channel as the dialect names it.
            early: Whether this is a guess from what follows. A channel that has resumed once is
                not guessed at again, so that text in alternation is cut at most once.

        Returns:
            The channels as their spans name them.
        """
        found = [c for c, run in self._open.items() if not (early and run.resumed) and which(c)]
        for channel in found:
            self._ended[channel] = self._open.pop(channel)
        return tuple(self._ended[channel].channel for channel in found)
