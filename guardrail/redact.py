"""Takes what rules with ``action: redact`` find out of texts, whole or in a stream.

Redaction follows the verdicts: what is blocked never comes here. It needs no model and no clock,
so that it is the same in every mode of a stream; what it holds back is the end of a text in which
a place may still go on. How an edited frame is written is told by the caller.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from guardrail.classifier.json_text import BEGIN
from guardrail.classifier.matches import Match, MatchFinder
from guardrail.decide import rules_for
from guardrail.errors import CheckError
from guardrail.policy import Policy
from guardrail.types import (
    Action,
    Channel,
    ChannelKind,
    Direction,
    Edits,
    Finding,
    Frame,
    Outcome,
    Role,
    Span,
    Stage,
    Verdict,
)

__all__ = ["EditFrame", "Redactor", "StreamRedactor", "Unredactable", "unredactable"]

MAX_OPEN_CHARS: Final = 8_192
"""Longest open end: a private key is shorter. What is open beyond it goes as it stands."""
MAX_WAITING_FRAMES: Final = 4 * MAX_OPEN_CHARS
"""Frames that wait for an earlier one: a choice that stops within a word keeps the others back."""
_GAP: Final = re.compile(r"\W")
CONTEXT_CHARS: Final = 256
"""Text before the open end that patterns see, for what they ask of its surroundings."""

EditFrame = Callable[[Frame, Edits, Callable[[str], str]], Frame | None]
"""Writes a frame anew: new strings for those of its spans, and a function for every other string
in it. Returns None where one cannot be found in the frame."""


class Unredactable(CheckError):  # noqa: N818  (an ending, told to the sink)
    """Something was found that cannot be taken out where it stands."""

    def __init__(self) -> None:
        super().__init__("a place to redact cannot be edited", reason="unredactable")


def unredactable(policy: Policy, direction: Direction) -> Verdict:
    """Return the verdict on what should be redacted and cannot be: it is blocked.

    Args:
        policy: The policy in force.
        direction: Which way the text travels.
    """
    keys = [rule.category for rule in policy.rules if rule.action is Action.REDACT]
    found = tuple(
        Finding(key, Action.BLOCK, reason="unredactable", stage=Stage.FAILURE) for key in keys
    )
    return Verdict(Action.BLOCK, direction, found, policy=policy.identity, outcome=Outcome.FAILED)


class Redactor:
    """What a policy redacts in texts that travel one way.

    Args:
        policy: The policy in force.
        direction: Which way.
    """

    def __init__(self, policy: Policy, direction: Direction) -> None:
        self._policy = policy
        self._direction = direction
        self._finders: dict[tuple[Role, ChannelKind | None], MatchFinder | None] = {}
        self.counts: Counter[str] = Counter()

    @staticmethod
    def of(policy: Policy, direction: Direction) -> Redactor | None:
        """Return the redactor of a policy, or None where it redacts nothing this way."""
        return Redactor(policy, direction) if policy.redacts(direction) else None

    def finder(self, role: Role, kind: ChannelKind | None) -> MatchFinder | None:
        """Return what finds places in a speaker's texts of one kind, or of an unknown one."""
        key = (role, kind)
        if key not in self._finders:
            rules = rules_for(self._policy, self._direction, role, kind)
            redacting = [rule for rule in rules if rule.action is Action.REDACT]
            known = role is Role.TEXT or self._direction is Direction.OUTPUT
            in_scope = known or role in self._policy.roles
            self._finders[key] = (
                MatchFinder(redacting, disguises=self._policy.normalise)
                if redacting and in_scope
                else None
            )
        return self._finders[key]

    def text(
        self,
        text: str,
        role: Role,
        kind: ChannelKind | None = ChannelKind.TEXT,
        count: bool = True,
    ) -> str:
        """Return a whole text, redacted.

        Args:
            text: The text.
            role: Who speaks.
            kind: Kind of text; None where that is not known.
            count: Whether its places are counted.
        """
        finder = self.finder(role, kind)
        places = finder.find(text) if finder is not None else []
        if count:
            self.counts.update(place.kind for place in places)
        return _shown(text, 0, len(text), places, 0)

    def clean(self, channel: Channel, text: str) -> bool:
        """Return whether a text of an answer has no place that is redacted."""
        finder = self.finder(Role.ASSISTANT, channel.kind)
        return finder is None or not finder.find(text)

    def frame(self, frame: Frame, edit: EditFrame) -> Frame:
        """Return a whole answer, redacted.

        Args:
            frame: The answer as one frame.
            edit: Writes it anew.

        Raises:
            Unredactable: A place cannot be taken out of it.
        """
        stream = StreamRedactor(self, edit)
        return [*stream.feed([frame]), *stream.flush()][0]


class _ChannelText:
    """The text of one channel: how far it is settled, and the places in what is open.

    Positions count characters from the channel's start.

    Args:
        finder: Finds places in it.
        counts: Takes their number, by kind.
        head: Characters at its start that another channel had: what stands in them was taken out
            there, and they only say how what follows reads.
        fixed: Whether nothing can be taken out of it.
    """

    __slots__ = ("_counts", "_finder", "_known", "_known_at", "_parts", "_state", "fixed",
                 "places", "received", "settled")  # fmt: skip

    def __init__(
        self, finder: MatchFinder, counts: Counter[str], head: int = 0, *, fixed: bool = False
    ) -> None:
        self._finder = finder
        self._counts = counts
        self._known = ""
        self._known_at = 0
        self._state = BEGIN
        self._parts: list[str] = []
        self.received = 0
        self.settled = head
        self.fixed = fixed
        self.places: list[Match] = []

    def append(self, text: str) -> int:
        """Take in text; return where it begins."""
        self._parts.append(text)
        start = self.received
        self.received += len(text)
        return start

    def settle(self, *, ended: bool) -> None:
        """Find what is settled by now."""
        if not self._parts and not ended:
            return
        text = self._known + "".join(self._parts)
        self._parts.clear()
        found = self._finder.read(text, self._state, ended=ended)
        places = found.places
        open_at = found.text.boundary(max(found.settled, len(text) - MAX_OPEN_CHARS))
        settled = max(self.settled, self._known_at + open_at)
        for place in places:
            start = max(place.start + self._known_at, self.settled)
            end = min(place.end + self._known_at, settled)  # beyond the bound it goes as it stands
            if start < end:
                self.places.append(Match(start, end, place.category, place.kind, place.shown))
                self._counts[place.kind] += 1
        self.settled = settled
        keep = found.text.boundary(_context_from(text, open_at, places))
        self._state = found.text.state(keep)
        self._known, self._known_at = text[keep:], self._known_at + keep

    def forget(self, position: int) -> None:
        """Drop places before a position that was released."""
        del self.places[: bisect_right(self.places, position, key=lambda place: place.end)]


def _context_from(text: str, open_at: int, places: Sequence[Match]) -> int:
    """Return where the context begins: between words, and in no place.

    Matches are then found as in the whole text: none that began before the context goes on in it.
    """
    at = max(0, open_at - CONTEXT_CHARS)
    if at > 0:
        gap = _GAP.search(text, at, open_at)
        at = gap.start() if gap else at
    for place in places:
        if place.start < at < place.end:
            at = min(place.end, open_at)
    return at


class _Waiting:
    """A frame, and the positions of its strings."""

    __slots__ = ("frame", "spans")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.spans: list[tuple[_ChannelText, int, Span]] = []

    @property
    def settled(self) -> bool:
        return all(at + len(span.text) <= channel.settled for channel, at, span in self.spans)

    def edits(self) -> Edits:
        """Return what becomes of the frame's strings.

        Raises:
            Unredactable: Of one string two things are to become, or nothing can.
        """
        edits = {(s.channel.index, text): text for s in self.frame.spans for *_, text in s.strings()}
        known: dict[tuple[int, str], str] = {}
        for channel, at, span in self.spans:
            for start, end, text in span.strings():
                key = span.channel.index, text
                shown = _shown(text, at + start, at + end, channel.places, at + start)
                edits[key] = known.setdefault(key, shown)
                if edits[key] != shown or (shown != text and channel.fixed):
                    raise Unredactable
            channel.forget(at + len(span.text))
        return edits


class StreamRedactor:
    """Redacts one answer, frame by frame, between its release and the client.

    Frames leave in order, each as soon as its texts are settled; a frame in which nothing is
    redacted leaves as it came.

    Args:
        redactor: What is redacted.
        edit: Writes a frame anew.
    """

    def __init__(self, redactor: Redactor, edit: EditFrame) -> None:
        self._redactor = redactor
        self._edit = edit
        self._channels: dict[Channel, _ChannelText | None] = {}
        self._waiting: deque[_Waiting] = deque()

    @property
    def counts(self) -> Mapping[str, int]:
        """Places so far, by kind."""
        return self._redactor.counts

    def feed(self, frames: Iterable[Frame]) -> list[Frame]:
        """Take in frames that are cleared.

        Args:
            frames: The next frames, in order.

        Returns:
            Frames that may leave.

        Raises:
            Unredactable: A place cannot be taken out of its frame, or too many frames wait.
        """
        touched: dict[_ChannelText, None] = {}
        for frame in frames:
            waiting = _Waiting(frame)
            for span in frame.spans:
                channel = self._channel(span)
                if channel is not None and span.text:
                    waiting.spans.append((channel, channel.append(span.text), span))
                    touched[channel] = None
            self._waiting.append(waiting)
            for ending in frame.ends:
                if (ended := self._channels.pop(ending, None)) is not None:
                    ended.settle(ended=True)
                    touched.pop(ended, None)
        for channel in touched:
            channel.settle(ended=False)
        leaving = list(self._leaving())
        if len(self._waiting) > MAX_WAITING_FRAMES:
            raise Unredactable
        return leaving

    def flush(self) -> list[Frame]:
        """Take in the end of the answer; return the frames that are left.

        Raises:
            Unredactable: A place cannot be taken out of its frame.
        """
        for channel in self._channels.values():
            if channel is not None:
                channel.settle(ended=True)
        return list(self._leaving())

    def _channel(self, span: Span) -> _ChannelText | None:
        channel = span.channel
        if channel not in self._channels:
            finder = self._redactor.finder(Role.ASSISTANT, channel.kind)
            head = next(span.strings())[0]
            # Where in their JSON arguments go on is not known.
            fixed = head > 0 and channel.kind is ChannelKind.TOOL_ARGUMENTS
            made = finder and _ChannelText(finder, self._redactor.counts, head, fixed=fixed)
            self._channels[channel] = made
        return self._channels[channel]

    def _leaving(self) -> Iterator[Frame]:
        while self._waiting and self._waiting[0].settled:
            yield self._edited(self._waiting.popleft())

    def _edited(self, waiting: _Waiting) -> Frame:
        frame = self._edit(waiting.frame, waiting.edits(), self._other)
        if frame is None:
            raise Unredactable
        return frame

    def _other(self, text: str) -> str:
        """Redact a text of a frame that is not its news: most repeat what went before.

        Of which channel is not known, so that every rule looks at it.
        """
        return self._redactor.text(text, Role.ASSISTANT, None, False)


def _shown(text: str, start: int, end: int, places: Sequence[Match], base: int) -> str:
    """Return the text of ``[start, end)`` with what stands for the places in it.

    A place that began before ``start`` has been shown there already.
    """
    parts: list[str] = []
    at = start
    for place in places[max(0, bisect_right(places, start, key=lambda p: p.end)) :]:
        if place.start >= end:
            break
        parts.append(text[at - base : max(at, place.start) - base])
        if place.start >= start:
            parts.append(place.shown)
        at = min(place.end, end)
    parts.append(text[at - base : end - base])
    return "".join(parts)
