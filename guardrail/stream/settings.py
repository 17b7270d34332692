"""How a stream is guarded: mode, window sizes and bounds.

This file owns the numbers and their validation; it knows nothing of text, frames or time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Mode", "StreamSettings"]


class Mode(StrEnum):
    """What happens to a frame before its verdict is known."""

    HOLD = "hold"
    """Nothing unjudged leaves; a blocked verdict cuts the stream."""
    TRAIL = "trail"
    """Frames leave at once; a blocked verdict cuts the stream behind them."""
    MONITOR = "monitor"
    """Frames leave at once and nothing is ever cut; verdicts are only counted."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Sizes and bounds of one guarded stream.

    The defaults keep the cost of a text, ``(text + context) / streamed`` characters, at 2.5 or
    less for any length: a full step adds ``stride_chars`` less an eighth at worst, so
    ``(98 + 32 + 112) / 98 = 2.47``. Held text then moves between ``lookahead_chars`` and
    ``lookahead_chars + stride_chars``, 8 to 36 tokens of 4 characters.

    Args:
        mode: What happens to a frame before its verdict is known.
        first_chars: New characters that trigger the first check of a channel; small, so that
            the first token is not late.
        stride_chars: New characters that trigger a check once the stride has grown.
        growth: Factor from one stride to the next, up to ``stride_chars``.
        lookahead_chars: Judged characters that must follow a character before it leaves; also
            the overlap of two checks. At most half of a check's new text.
        context_chars: Judged characters that go before the text of a check.
        max_hold_ms: Age of the oldest held frame at which what is held is checked at once; that
            frame then leaves with its next verdict, with what look-ahead there is.
        max_hold_bytes: Held bytes above which `StreamGuard.paused` asks to stop reading.
        max_in_flight: Checks without a verdict at one time, over all channels.

    Raises:
        ValueError: A number is out of range; the message names the field and the range.
    """

    mode: Mode = Mode.HOLD
    first_chars: int = 20
    stride_chars: int = 112
    growth: float = 2.5
    lookahead_chars: int = 32
    context_chars: int = 112
    max_hold_ms: int = 1000
    max_hold_bytes: int = 262_144
    max_in_flight: int = 4

    def __post_init__(self) -> None:
        if not isinstance(self.mode, Mode):
            names = ", ".join(f"Mode.{mode.name}" for mode in Mode)
            raise ValueError(f"mode: {self.mode!r} is not a mode; use one of {names}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not math.isfinite(value) or value < least:
                raise ValueError(f"{name}: {value!r} is out of range; use {least} or more")
        if self.stride_chars < self.first_chars:
            raise ValueError(
                f"stride_chars: {self.stride_chars} is less than first_chars "
                f"({self.first_chars}); use {self.first_chars} or more"
            )


_LEAST = {
    "first_chars": 1,
    "stride_chars": 1,
    "growth": 1,
    "lookahead_chars": 0,
    "context_chars": 0,
    "max_hold_ms": 1,
    "max_hold_bytes": 1,
    "max_in_flight": 1,
}
