"""How far a stream has come, and what moves it on: the transition table as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

__all__ = ["TRANSITIONS", "Phase", "Trigger"]


class Phase(StrEnum):
    """How far a stream has come."""

    OPEN = "open"
    DRAINING = "draining"
    FINISHED = "finished"
    TERMINATED = "terminated"


class Trigger(StrEnum):
    """What moves a stream: the four events, and two conclusions from them."""

    FRAME = "frame"
    VERDICT = "verdict"
    TIME = "time"
    END = "end"
    BLOCKED = "blocked"
    DRAINED = "drained"


TRANSITIONS: Mapping[tuple[Phase, Trigger], Phase] = MappingProxyType(
    {
        (Phase.OPEN, Trigger.FRAME): Phase.OPEN,
        (Phase.OPEN, Trigger.VERDICT): Phase.OPEN,
        (Phase.OPEN, Trigger.TIME): Phase.OPEN,
        (Phase.OPEN, Trigger.END): Phase.DRAINING,
        (Phase.OPEN, Trigger.BLOCKED): Phase.TERMINATED,
        (Phase.DRAINING, Trigger.VERDICT): Phase.DRAINING,
        (Phase.DRAINING, Trigger.TIME): Phase.DRAINING,
        (Phase.DRAINING, Trigger.END): Phase.DRAINING,
        (Phase.DRAINING, Trigger.BLOCKED): Phase.TERMINATED,
        (Phase.DRAINING, Trigger.DRAINED): Phase.FINISHED,
        (Phase.FINISHED, Trigger.TIME): Phase.FINISHED,
        (Phase.FINISHED, Trigger.END): Phase.FINISHED,
        (Phase.TERMINATED, Trigger.FRAME): Phase.TERMINATED,
        (Phase.TERMINATED, Trigger.VERDICT): Phase.TERMINATED,
        (Phase.TERMINATED, Trigger.TIME): Phase.TERMINATED,
        (Phase.TERMINATED, Trigger.END): Phase.TERMINATED,
    }
)
"""Phase by phase and trigger. A pair that is not in it is a mistake of the caller: a frame after
the end, or a verdict after the finish."""
