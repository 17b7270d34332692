"""Frames that wait for their text to be cleared, in the order of arrival.

Owns the order and the counters of what is held; knows nothing of commands or modes.
"""

from __future__ import annotations

from collections import deque

from guardrail.stream.stats import Tally
from guardrail.stream.windows import ChannelWindows
from guardrail.types import Frame

__all__ = ["Held", "HoldQueue"]


class Held:
    """A frame in the queue, and the channel positions that must be cleared for it to leave.

    Args:
        frame: The frame; None where it has left already and only its verdict is awaited.
        arrived: When it came, in seconds.
    """

    __slots__ = ("arrived", "chars", "forced", "frame", "needs", "size")

    def __init__(self, frame: Frame | None, arrived: float) -> None:
        self.frame = frame
        self.arrived = arrived
        self.needs: list[tuple[ChannelWindows, int]] = []
        self.chars = 0
        self.size = 0
        self.forced = False

    @property
    def cleared(self) -> bool:
        """Whether all its text is cleared."""
        # A loop, because all() takes several times as long and this runs on every event.
        for windows, end in self.needs:  # noqa: SIM110
            if windows.cleared < end:
                return False
        return True


class HoldQueue:
    """First in, first out, as soon as the first is cleared.

    Args:
        tally: Counters to keep.
    """

    __slots__ = ("_held", "_tally", "_young")

    def __init__(self, tally: Tally) -> None:
        self._held: deque[Held] = deque()
        self._young: deque[Held] = deque()
        self._tally = tally

    @property
    def head(self) -> Held | None:
        """The oldest entry, or None."""
        return self._held[0] if self._held else None

    @property
    def last(self) -> Held | None:
        """The youngest entry, or None."""
        return self._held[-1] if self._held else None

    @property
    def due(self) -> Held | None:
        """The oldest entry that is neither cleared nor forced, or None."""
        young = self._young
        while young and (young[0].forced or young[0].cleared):
            young.popleft()
        return young[0] if young else None

    def push(self, held: Held) -> None:
        """Add the youngest entry.

        Args:
            held: The entry.
        """
        tally = self._tally
        tally.held_bytes += held.size
        if held.frame is not None:
            tally.held_chars += held.chars
        self._held.append(held)
        self._young.append(held)

    def pop_cleared(self, now: float) -> list[Frame]:
        """Take out every entry up to the first that is not cleared.

        Args:
            now: Time in seconds.

        Returns:
            Their frames, without those that had left before.
        """
        frames: list[Frame] = []
        tally = self._tally
        while self._held and self._held[0].cleared:
            held = self._held.popleft()
            tally.held_bytes -= held.size
            if held.frame is not None:
                frames.append(held.frame)
                self._count(held, now)
        tally.max_held_chars = max(tally.max_held_chars, tally.held_chars)
        return frames

    def _count(self, held: Held, now: float) -> None:
        tally = self._tally
        tally.held_chars -= held.chars
        tally.released_chars += held.chars
        tally.max_held_ms = max(tally.max_held_ms, 1000 * (now - held.arrived))
        for windows, end in held.needs:
            windows.released = end

    def clear(self) -> None:
        """Drop everything: none of it will leave."""
        self._held.clear()
        self._young.clear()
        self._tally.held_bytes = self._tally.held_chars = 0
