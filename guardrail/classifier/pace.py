"""How fast the classifier reads on this machine, learned from the batches that it finished.

Two questions follow from it: how much text makes a batch that is over in time, and how long a
text that comes now will wait. Pure: time comes in as arguments.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Pace"]

SECONDS_PER_CHAR: Final = 50e-6
"""Until something was measured: of one core (4,400 tokens of 4.5 characters a second)."""
LEAST_CHARS: Final = 2_000
"""Smaller batches waste the model's time: measured, 16 windows at once cost half as much as one
by one, and more than that gain little."""
MOST_CHARS: Final = 32_000
MEMORY: Final = 0.2
"""Weight of the newest batch in the running mean."""


class Pace:
    """A running mean of the time of a character.

    Args:
        target_s: What one batch should take.
    """

    __slots__ = ("_seconds_per_char", "_target_s")

    def __init__(self, target_s: float) -> None:
        self._target_s = target_s
        self._seconds_per_char = SECONDS_PER_CHAR

    def observe(self, chars: int, seconds: float) -> None:
        """Learn from a finished batch.

        Args:
            chars: Characters in it.
            seconds: Time that it took.
        """
        if chars >= LEAST_CHARS // 8:  # the fixed cost of a tiny batch says nothing of the rate
            newest = max(seconds, 0.0) / chars
            self._seconds_per_char += MEMORY * (newest - self._seconds_per_char)

    @property
    def seconds_per_char(self) -> float:
        """Seconds that a character takes."""
        return self._seconds_per_char

    @property
    def batch_chars(self) -> int:
        """Characters that make a batch of the length in time that is wanted."""
        chars = self._target_s / max(self._seconds_per_char, 1e-9)
        return int(min(max(chars, LEAST_CHARS), MOST_CHARS))

    def wait_s(self, chars: int) -> float:
        """Return how long a text will wait that comes behind so many characters."""
        return chars * self._seconds_per_char
