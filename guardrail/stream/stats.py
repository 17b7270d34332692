"""What one guarded stream has cost, held and let out."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StreamStats", "Tally"]


@dataclass(frozen=True, slots=True)
class StreamStats:
    """A snapshot of one stream's counters.

    Args:
        received_chars: Characters that came in, over all channels.
        unscanned_chars: Those of them in channels out of scope.
        checked_chars: Characters handed to checks, context included: the cost.
        released_chars: Characters that were released.
        exposed_chars: Characters in scope that were released before their verdict (trail and
            monitor).
        leaked_chars: Characters in scope that had left without a passed check when the stream
            was cut (trail).
        skipped_chars: Characters that were never checked because checks could not keep up
            (monitor, which neither delays nor grows without bound).
        checks: Checks that were issued.
        forced_checks: Those of them issued by the time bound or the byte cap.
        blocked: Blocked verdicts that came in.
        holds: Frames that were not released on receipt.
        held_chars: Characters held now.
        held_bytes: Bytes held now; in trail and monitor, sent but without a verdict.
        max_held_chars: Most characters held after any event.
        max_held_ms: Longest time that a released frame was held.
    """

    received_chars: int = 0
    unscanned_chars: int = 0
    checked_chars: int = 0
    released_chars: int = 0
    exposed_chars: int = 0
    leaked_chars: int = 0
    skipped_chars: int = 0
    checks: int = 0
    forced_checks: int = 0
    blocked: int = 0
    holds: int = 0
    held_chars: int = 0
    held_bytes: int = 0
    max_held_chars: int = 0
    max_held_ms: float = 0.0

    @property
    def cost(self) -> float:
        """Characters handed to checks per character in scope; 0.0 where there was none."""
        in_scope = self.received_chars - self.unscanned_chars
        return self.checked_chars / in_scope if in_scope else 0.0


class Tally:
    """The counters behind `StreamStats`, which the guard counts up; same names, same meaning."""

    __slots__ = tuple(StreamStats.__slots__)

    received_chars: int
    unscanned_chars: int
    checked_chars: int
    released_chars: int
    exposed_chars: int
    leaked_chars: int
    skipped_chars: int
    checks: int
    forced_checks: int
    blocked: int
    holds: int
    held_chars: int
    held_bytes: int
    max_held_chars: int
    max_held_ms: float

    def __init__(self) -> None:
        zero = StreamStats()
        for name in StreamStats.__slots__:
            setattr(self, name, getattr(zero, name))

    def snapshot(self) -> StreamStats:
        """Return the counters as they stand."""
        return StreamStats(*(getattr(self, name) for name in StreamStats.__slots__))
