"""Takes what rules with ``action: redact`` find out of texts, whole or in a stream.

Redaction follows the verdicts: what is blocked never comes here. It needs no model and no clock,
so that it is the same in every mode of a stream; what it holds back is the end of a text in which
a place may still go on. How an edited frame is written is told by the caller.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from guardrail.classifier.growing import MAX_OPEN_CHARS, GrowingText, shown_in
from guardrail.classifier.matches import MatchFinder
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

MIN_PATIENCE_FRAMES: Final = 64
"""What a quiet channel has left unread is read after so many frames, or as many as wait."""
LARGE_BYTES: Final = 16_384
"""Frames that are too much to be redacted beside other work at once."""
LARGE_OPEN_CHARS: Final = 2_048
"""An open end that is: detectors take some 10 microseconds for a character of digits."""
MAX_WAITING_FRAMES: Final = 4 * MAX_OPEN_CHARS
"""Frames that wait for an earlier one: a choice that stops within a word keeps the others back."""

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
        return shown_in(text, 0, len(text), places, 0)

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


class _Waiting:
    """A frame, and the positions of its strings."""

    __slots__ = ("frame", "spans")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.spans: list[tuple[GrowingText, int, Span]] = []

    @property
    def settled(self) -> bool:
        return all(at + len(span.text) <= channel.settled for channel, at, span in self.spans)

    def edits(self) -> Edits:
        """Return what becomes of the frame's strings.

        Raises:
            Unredactable: Of one string two things are to become, or nothing can.
        """
        edits = {
            (s.channel.index, text): text for s in self.frame.spans for *_, text in s.strings()
        }
        known: dict[tuple[int, str], str] = {}
        for channel, at, span in self.spans:
            for start, end, text in span.strings():
                key = span.channel.index, text
                shown = shown_in(text, at + start, at + end, channel.places, at + start)
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
        self._channels: dict[Channel, GrowingText | None] = {}
        self._waiting: deque[_Waiting] = deque()
        self._fed = 0

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
        touched: dict[GrowingText, None] = {}
        for frame in frames:
            self._fed += 1
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
        self._settle(touched)
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

    def heavy(self, frames: Sequence[Frame], *, last: bool = False) -> bool:
        """Return whether to take in frames is work for a thread.

        Args:
            frames: The next frames.
            last: Whether the answer ends.
        """
        if sum(len(frame.raw) for frame in frames) >= LARGE_BYTES:
            return True
        more = sum(len(span.text) for frame in frames for span in frame.spans)
        ended = last or any(frame.ends for frame in frames) or self._overdue(len(frames))
        return any(
            channel.received - channel.settled + more >= LARGE_OPEN_CHARS
            and (ended or channel.due(more))
            for channel in self._channels.values()
            if channel is not None
        )

    def _settle(self, touched: Iterable[GrowingText]) -> None:
        """Read what is due; at times all, so that frames do not wait for a quiet channel."""
        if self._overdue(0):
            self._fed = 0
            for channel in self._channels.values():
                if channel is not None:
                    channel.settle(ended=False)
        for channel in touched:
            if channel.due():
                channel.settle(ended=False)

    def _overdue(self, more: int) -> bool:
        return self._fed + more >= max(MIN_PATIENCE_FRAMES, len(self._waiting))

    def _channel(self, span: Span) -> GrowingText | None:
        channel = span.channel
        if channel not in self._channels:
            finder = self._redactor.finder(Role.ASSISTANT, channel.kind)
            head = next(span.strings())[0]
            # Where in their JSON arguments go on is not known.
            fixed = head > 0 and channel.kind is ChannelKind.TOOL_ARGUMENTS
            self._channels[channel] = (
                GrowingText(finder, self._redactor.counts, head, fixed=fixed)
                if finder is not None
                else None
            )
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
