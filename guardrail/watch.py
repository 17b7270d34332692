"""What is told of finished checks, for metrics and audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from guardrail.types import Direction, Segment, Verdict

__all__ = ["NOTHING", "CheckRecord", "ShadowRecord", "Watch"]

NOTHING: Final = Segment("")
"""What a decision was about that was made without a text."""


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """One finished check, for metrics and audit.

    Args:
        direction: Which way the text travels.
        verdict: What was decided.
        chars: Characters that were judged.
        seconds: From submission to verdict.
        segment: What was judged.
        context: The text before it that was read again.
    """

    direction: Direction
    verdict: Verdict
    chars: int
    seconds: float
    segment: Segment = NOTHING
    context: str = ""


class Watch(Protocol):
    """Who wants to know all that is decided of one request; the audit's side of a check."""

    @property
    def accepts(self) -> bool:
        """Whether there is room to record the next decision."""
        ...

    def checked(self, record: CheckRecord) -> None:
        """Take note of one decision, on the event loop."""
        ...

    def skipped(self, parts: Sequence[str]) -> None:
        """Take note of what is out of the policy's scope, before the decisions."""
        ...


@dataclass(frozen=True, slots=True)
class ShadowRecord:
    """One text that a policy on trial judged as well.

    Args:
        direction: Which way the text travels.
        live: What was decided.
        shadow: What the policy on trial would have decided.
    """

    direction: Direction
    live: Verdict
    shadow: Verdict
