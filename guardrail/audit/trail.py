"""The decisions of one request, gathered on its way.

A text of a request is one decision. A channel of an answer is one decision too, however many
windows it was judged in: its record is written when a window is flagged, blocked or in the
review band, and again, complete, when the answer ends. The last one counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from guardrail.audit.record import MAX_TEXT_CHARS, Decision, Origin
from guardrail.check import CheckRecord
from guardrail.decide import decide_failure
from guardrail.policy import AuditText, Policy
from guardrail.stream import StreamStats
from guardrail.types import Action, Channel, Direction, Role, Verdict

__all__ = ["Trail"]

MAX_SKIPPED: Final = 50
"""Parts out of scope that are named; the record says how many there were."""


class _Takes(Protocol):
    """Who takes decisions to be recorded."""

    @property
    def accepts(self) -> bool:
        """Whether the next one has room."""
        ...

    def add(self, decision: Decision) -> bool:
        """Take one."""
        ...


@dataclass(slots=True)
class _Text:
    """What is known of one text of a request, or of one channel of an answer."""

    number: int
    worst: CheckRecord
    checks: int = 0
    scanned: int = 0
    total: int = 0
    tokens: int = 0
    slowest_s: float = 0.0

    def add(self, record: CheckRecord) -> bool:
        """Count a check; return whether it is the most severe so far."""
        coverage = record.verdict.scores.coverage
        self.checks += 1
        self.scanned += coverage.scanned_chars
        self.total += record.chars
        self.tokens += coverage.tokens
        self.slowest_s = max(self.slowest_s, record.seconds)
        worse = self.checks == 1 or _weight(record.verdict) > _weight(self.worst.verdict)
        if worse:
            self.worst = record
        return worse


@dataclass(slots=True)
class Trail:
    """Implements `guardrail.check.Watch` for one request.

    Args:
        log: Where decisions go.
        origin: Where the request came in.
        policy: The policy in force.
        clock: Seconds since 1970.
        timer: Monotonic seconds.
    """

    log: _Takes
    origin: Origin
    policy: Policy
    clock: Callable[[], float] = time.time
    timer: Callable[[], float] = time.monotonic
    _started: float = field(init=False)
    _count: int = 0
    _skipped: list[str] = field(default_factory=list)
    _answers: dict[Channel, _Text] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._started = self.timer()

    @property
    def accepts(self) -> bool:
        """Whether there is room to record the next decision."""
        return self.log.accepts

    def skipped(self, parts: Sequence[str]) -> None:
        """Take note of what is not judged; the next decision names it."""
        self._skipped += parts

    def checked(self, record: CheckRecord) -> None:
        """Take note of one decision."""
        if record.direction is Direction.INPUT:
            text = self._text(record)
            text.add(record)
            self._record(text)
            return
        channel = record.segment.channel
        answer = self._answers.get(channel)
        if answer is None:
            answer = self._answers[channel] = self._text(record)
        if answer.add(record) and _is_serious(record.verdict):
            self._record(answer, final=False)

    def finish(
        self,
        ended: str,
        stats: StreamStats | None = None,
        fault: str | None = None,
        verdict: Verdict | None = None,
    ) -> None:
        """Record the answer, which is over.

        Args:
            ended: How the exchange ended.
            stats: What the guard of the answer counted.
            fault: What was wrong with the answer, if anything was.
            verdict: What became of it; a block that no check made is a decision of its own.
        """
        unchecked = []
        if fault == "unreadable":
            unchecked.append(decide_failure(self.policy, Direction.OUTPUT, Role.ASSISTANT, fault))
        answers = self._answers.values()
        if verdict is not None and verdict.blocked:
            unchecked += [] if any(a.worst.verdict.blocked for a in answers) else [verdict]
        for text in (*answers, *map(self._unchecked, unchecked)):
            self._record(text, ended=ended, stats=stats)
        self._answers.clear()

    def failed(self, reason: str) -> None:
        """Record that a request was not judged at all, such as for overload."""
        self.refused(decide_failure(self.policy, Direction.INPUT, Role.TEXT, reason))

    def refused(self, verdict: Verdict) -> None:
        """Record what was decided without a check, such as that it cannot be redacted."""
        self._record(self._unchecked(verdict))

    def _unchecked(self, verdict: Verdict) -> _Text:
        return self._text(CheckRecord(verdict.direction, verdict, 0, 0.0))

    def _text(self, record: CheckRecord) -> _Text:
        self._count += 1
        return _Text(self._count, record)

    def _record(
        self, text: _Text, *, final: bool = True, ended: str = "", stats: StreamStats | None = None
    ) -> None:
        worst, segment = text.worst, text.worst.segment
        keeps = self.policy.audit.text is not AuditText.NONE
        judged = worst.context + segment.text if keeps and worst.chars else None
        self.log.add(
            Decision(
                number=text.number,
                time=self.clock(),
                origin=self.origin,
                policy=self.policy,
                direction=worst.direction,
                channel=str(segment.channel),
                role=segment.role,
                verdict=worst.verdict,
                text=None if judged is None else judged[:MAX_TEXT_CHARS],
                prompt=segment.prompt[:MAX_TEXT_CHARS] if keeps and segment.prompt else None,
                final=final,
                checks=text.checks,
                scanned_chars=text.scanned,
                total_chars=text.total,
                tokens=text.tokens,
                check_ms=text.slowest_s * 1000,
                total_ms=(self.timer() - self._started) * 1000,
                held_ms=stats.max_held_ms if stats else 0.0,
                ended=ended,
                extra=self._extra(stats),
            )
        )

    def _extra(self, stats: StreamStats | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._skipped:
            found["skipped"] = [part[:120] for part in self._skipped[:MAX_SKIPPED]]
            found["skipped_parts"] = len(self._skipped)
            self._skipped = []
        if stats is not None:
            found["exposed_chars"] = stats.exposed_chars
            found["unjudged_chars"] = stats.skipped_chars
            found["unscanned_chars"] = stats.unscanned_chars
        return found


def _is_serious(verdict: Verdict) -> bool:
    return verdict.action is not Action.PASS or verdict.review


def _weight(verdict: Verdict) -> tuple[int, int, bool, float]:
    """Order verdicts: what was done, what was asked for, review, the likeliest category."""
    chances = (f.probability or 0.0 for f in verdict.findings)
    top = max(chances, default=max(verdict.scores.categories.values(), default=-1.0))
    return verdict.effective.severity, verdict.action.severity, verdict.review, top
