"""What is known about one guarded request, and how it is counted and logged once it is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from guardrail.audit import Trail
from guardrail.policy import InputCheck, Policy
from guardrail.proxy.logs import FIELDS
from guardrail.proxy.metrics import Metrics
from guardrail.proxy.notices import Notices
from guardrail.proxy.tracing import Note
from guardrail.relay import Result
from guardrail.types import Action, Direction, Verdict
from guardrail.wire import Wire, WireRequest
from guardrail.wire.routes import Route

__all__ = ["Exchange"]

log = logging.getLogger("guardrail.proxy")


@dataclass(slots=True)
class Exchange:
    """What is known about one guarded request so far; filled in on its way."""

    id: str
    policy: Policy
    route: Route
    wire: Wire
    notices: Notices
    started: float
    request: WireRequest | None = None
    input: Verdict | None = None
    result: Result | None = None
    ended: str = "ok"
    faulty: bool = False
    trail: Trail | None = None
    input_s: float = 0.0
    first_held_s: float | None = None
    redacted: Mapping[str, int] = field(default_factory=dict)

    def fault(self, metrics: Metrics, ended: str, error: Exception) -> None:
        """Take note that it ends in an error."""
        self.ended, self.faulty = ended, True
        metrics.errors.labels(type(error).__name__).inc()

    def left(self) -> None:
        """Take note that the connection is gone, unless a fault is why it was cut."""
        if not self.faulty:
            self.ended = "disconnect"

    def note_answer(self, note: Note, status: int) -> None:
        """Note on its span how the model API answered and what was decided about it."""
        note.set(http__response__status_code=status)
        note.verdict(self.result.verdict if self.result else None)
        if self.result is not None and self.result.fault is not None:
            note.failed(self.result.fault)
        elif status >= 400:
            note.failed(str(status))
        elif self.ended.startswith("upstream_"):
            note.failed(self.ended.removeprefix("upstream_"))

    def account(self, metrics: Metrics) -> None:
        """Count it and write its one line of log, which holds no text."""
        result = self.result
        if result is not None and result.verdict is not None and result.verdict.blocked:
            self.ended = "blocked_output"
        elif result is not None and result.fault is not None:
            self.ended = f"upstream_{result.fault}"
            metrics.upstream_errors.labels(result.fault).inc()
        if result is not None:
            metrics.stream(result.stats)
            metrics.redacted(Direction.OUTPUT, result.redacted)
        if self.trail is not None:
            if result is None:
                self.trail.finish(self.ended)
            else:
                self.trail.finish(self.ended, result.stats, result.fault, result.verdict)
        skipped = len(self.request.skipped) if self.request else 0
        if skipped:
            metrics.bypasses.labels("part").inc(skipped)
        seconds = time.monotonic() - self.started
        metrics.requests.labels(self.wire.name, self.ended).inc()
        metrics.request_seconds.observe(seconds)
        if self.first_held_s is not None:
            before = self.input_s if self.policy.input_check is InputCheck.BEFORE else 0.0
            metrics.first_token_delay_seconds.observe(before + self.first_held_s)
        self._log(skipped, seconds)

    def _log(self, skipped: int, seconds: float) -> None:
        fields: dict[str, object] = {
            "request_id": self.id,
            "dialect": self.wire.name,
            "result": self.ended,
            "input": _brief(self.input),
            "output": _brief(self.result.verdict if self.result else None),
            "skipped": skipped,
            "ms": round(seconds * 1000),
            "policy": self.policy.identity,
        }
        log.info("request", extra={FIELDS: fields})


def _brief(verdict: Verdict | None) -> str:
    if verdict is None:
        return "-"
    names = "+".join(verdict.categories) if verdict.action is not Action.PASS else ""
    return f"{verdict.action.value}{':' + names if names else ''}"
