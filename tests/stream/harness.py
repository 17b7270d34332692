"""Drives a guard in simulated time, and audits what it did without asking the guard.

`Player` plays the outside world: an upstream that respects backpressure, checks that answer
after a delay, and a timer. `audit` reads only the log of events and commands.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from guardrail.stream import (
    Check,
    Command,
    Finish,
    Mode,
    Release,
    StreamGuard,
    StreamSettings,
    Terminate,
    Wake,
)
from guardrail.types import Action, Channel, ChannelKind, Direction, Frame, Span, Verdict

PASS = Verdict(Action.PASS, Direction.OUTPUT)
FLAG = Verdict(Action.FLAG, Direction.OUTPUT)
BLOCK = Verdict(Action.BLOCK, Direction.OUTPUT)
MONITORED = Verdict(Action.BLOCK, Direction.OUTPUT, enforced=False)

TEXT = Channel()
TOOL = Channel(0, ChannelKind.TOOL_ARGUMENTS)
OTHER = Channel(1)

SMALL = StreamSettings(first_chars=8, stride_chars=8, lookahead_chars=4, context_chars=6)
"""Sizes that a reader can count."""

Judge = Callable[[Check], Verdict]


@dataclass(frozen=True)
class Judged:
    """Log entry: the verdict of a check was handed in."""

    check: Check
    verdict: Verdict


@dataclass(frozen=True)
class End:
    """Log entry: the stream's end was handed in."""


Entry = Frame | Judged | End | Command


def settings(**changes: object) -> StreamSettings:
    """`SMALL` with other values."""
    fields = {name: getattr(SMALL, name) for name in StreamSettings.__slots__}
    return StreamSettings(**{**fields, **changes})  # type: ignore[arg-type]


def say(text: str, channel: Channel = TEXT) -> Frame:
    """One frame with one piece of text."""
    return Frame(text.encode(), (Span(channel, text),))


def split(text: str, size: int, channel: Channel = TEXT) -> list[Frame]:
    """Frames of ``size`` characters each."""
    return [say(text[at : at + size], channel) for at in range(0, len(text), size)]


def split_at(text: str, cuts: Iterable[int], channel: Channel = TEXT) -> list[Frame]:
    """Frames that end at the given positions, and one with the rest."""
    edges = sorted({0, len(text), *cuts})
    return [say(text[a:b], channel) for a, b in itertools.pairwise(edges)]


def approve(check: Check) -> Verdict:
    """A judge that passes everything."""
    return PASS


def forbid(marker: str) -> Judge:
    """A judge that blocks a window that shows all of ``marker``."""

    def judge(check: Check) -> Verdict:
        return BLOCK if marker in check.context + check.text else PASS

    return judge


class Player:
    """Plays a stream to its end.

    Args:
        guard: The guard to drive.
        judge: Gives the verdict of a check.
        delay: Gives the seconds that the next check takes.
    """

    def __init__(
        self, guard: StreamGuard, judge: Judge = approve, delay: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.guard = guard
        self.judge = judge
        self.delay = delay
        self.now = 0.0
        self.log: list[Entry] = []
        self.held: list[int] = []
        self.times: dict[int, tuple[float, float]] = {}
        self._arrived: dict[int, float] = {}
        self._agenda: list[tuple[float, int, Check | Wake]] = []
        self._order = itertools.count()
        self.in_flight = 0
        self.most_in_flight = 0

    def play(self, frames: Sequence[Frame], gap_s: float | Callable[[], float] = 0.0) -> Player:
        """Hand in frames ``gap_s`` apart, then the end, and run until nothing is left to do."""
        due = 0.0
        for frame in frames:
            due = max(due, self.now) + (gap_s() if callable(gap_s) else gap_s)
            self._run(until=due)
            while self.guard.paused and self._agenda:
                self._step()
            assert not self.guard.paused, "paused with nothing to wait for"
            self.now = max(due, self.now)
            self.log.append(frame)
            self._arrived[id(frame)] = self.now
            self._carry_out(self.guard.receive_frame(frame, self.now))
            self.held.append(self.guard.stats.held_chars)
        self.log.append(End())
        self._carry_out(self.guard.receive_end(self.now))
        self._run(until=None)
        return self

    def _run(self, until: float | None) -> None:
        while self._agenda and (until is None or self._agenda[0][0] <= until):
            self._step()

    def _step(self) -> None:
        at, _, item = heapq.heappop(self._agenda)
        self.now = max(self.now, at)
        if isinstance(item, Wake):
            self._carry_out(self.guard.receive_time(self.now))
            return
        verdict = self.judge(item)
        self.in_flight -= 1
        self.log.append(Judged(item, verdict))
        self._carry_out(self.guard.receive_verdict(item.check_id, verdict, self.now))

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            self.log.append(command)
            match command:
                case Check():
                    self.in_flight += 1
                    self.most_in_flight = max(self.most_in_flight, self.in_flight)
                    self._plan(self.now + self.delay(), command)
                case Wake(at):
                    self._plan(at, command)
                case Release(frames):
                    for frame in frames:
                        self.times[id(frame)] = (self._arrived[id(frame)], self.now)

    def _plan(self, at: float, item: Check | Wake) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), item))

    @property
    def released(self) -> list[Frame]:
        """All released frames, in order."""
        return [f for entry in self.log if isinstance(entry, Release) for f in entry.frames]

    def released_text(self, channel: Channel = TEXT) -> str:
        """Released text of one channel."""
        return "".join(s.text for f in self.released for s in f.spans if s.channel == channel)

    def only(
        self, kind: type[Terminate] | type[Finish] | type[Wake] | type[Check]
    ) -> list[Command]:
        """All commands of one kind."""
        return [entry for entry in self.log if isinstance(entry, kind)]


class Auditor:
    """Replays a log and asserts what must hold in every stream.

    Args:
        settings: The guard's settings.
        scanned: The guard's scope.
    """

    def __init__(self, settings: StreamSettings, scanned: Callable[[Channel], bool]) -> None:
        self.settings = settings
        self.scanned = scanned
        self.text: dict[Channel, str] = {}
        self.issued: dict[Channel, int] = {}
        self.passed: dict[Channel, bytearray] = {}
        self.places: dict[int, list[tuple[Channel, int, int]]] = {}
        self.queue: list[Frame] = []
        self.overtakers: set[int] = set()
        self.over = False
        self.ended = False
        self.skipped = 0

    def replay(self, log: Iterable[Entry]) -> None:
        """Assert that the log is the log of a sound guard."""
        for entry in log:
            match entry:
                case Frame():
                    self._frame(entry)
                case Judged(check, verdict):
                    if not verdict.blocked:
                        passed = self.passed[check.channel]
                        passed[check.start : check.end] = b"\1" * (check.end - check.start)
                case End():
                    self.ended = True
                case _:
                    assert not self.over, f"{entry} after the stream was over"
                    self._command(entry)

    def _frame(self, frame: Frame) -> None:
        if self.over:
            return
        self.queue.append(frame)
        if frame.keepalive and not frame.spans and not frame.ends:
            self.overtakers.add(id(frame))
        places = self.places[id(frame)] = []
        for span in frame.spans:
            start = len(self.text.get(span.channel, ""))
            self.text[span.channel] = self.text.get(span.channel, "") + span.text
            self.passed.setdefault(span.channel, bytearray()).extend(bytes(len(span.text)))
            places.append((span.channel, start, start + len(span.text)))

    def _command(self, command: Entry) -> None:
        match command:
            case Check():
                self._check(command)
            case Release(frames):
                assert frames, "an empty release"
                for frame in frames:
                    self._release(frame)
            case Terminate():
                assert self.settings.mode is not Mode.MONITOR
                self.over = True
            case Finish():
                assert self.ended, "finished before the end"
                assert not self.queue, f"{len(self.queue)} frames were lost"
                self.over = True

    def _check(self, check: Check) -> None:
        text = self.text[check.channel]
        done = self.issued.get(check.channel, 0)
        assert self.scanned(check.channel)
        assert check.text == text[check.start : check.end]
        assert check.end > done, "a check without new text"
        assert done - check.start <= self.settings.lookahead_chars
        context = text[max(0, check.start - self.settings.context_chars) : check.start]
        if self.settings.mode is Mode.MONITOR:  # the only mode that may skip text
            self.skipped += max(0, check.start - done)
            assert context.endswith(check.context)
        else:
            assert check.start <= done, "a gap between two checks"
            assert check.context == context
        self.issued[check.channel] = check.end

    def _release(self, frame: Frame) -> None:
        assert frame in self.queue, "released twice, or never received"
        ahead = self.queue[: self.queue.index(frame)]
        assert id(frame) in self.overtakers or not ahead, "out of order"
        self.queue.remove(frame)
        if self.settings.mode is Mode.HOLD:
            for channel, start, end in self.places[id(frame)]:
                judged = all(self.passed[channel][start:end]) or not self.scanned(channel)
                assert judged, f"{channel} [{start}, {end}) left before its verdict"


def audit(
    player: Player,
    settings: StreamSettings,
    scanned: Callable[[Channel], bool] = lambda channel: True,
) -> None:
    """Assert that a played stream was guarded soundly, and that it came to one end."""
    auditor = Auditor(settings, scanned)
    auditor.replay(player.log)
    assert auditor.skipped <= player.guard.stats.skipped_chars
    assert player.guard.finished
    assert len(player.only(Finish)) + len(player.only(Terminate)) == 1
    assert player.most_in_flight <= settings.max_in_flight
