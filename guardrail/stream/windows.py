"""One channel's text as windows: what has been issued, judged and cleared.

Positions count characters from the channel's start, and

    cleared <= judged <= issued <= received

A window is the text ``[start, end)`` of one check. The next one starts ``overlap`` characters
before the end of the last, which is just where the last one stops clearing: so every released
character was judged with its look-ahead, and what was judged at the very end is judged again
with its successors. This file knows nothing of frames, commands or time.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from guardrail.stream.settings import Mode, StreamSettings
from guardrail.types import Channel

__all__ = ["ChannelWindows", "Window"]

_EARLY_SHARE = 8
"""A stride may end an eighth early, at a word's edge, but never late: the cost bound in
`StreamSettings` counts on it."""

_SKIPPED = -1
"""Check number of a window that no check covers."""


class Window:
    """One issued window and whether its check has passed.

    Args:
        check_id: The check that covers it.
        start: Position of its first character.
        end: Position after its last character.
        overlap: Characters at its end that are not cleared by it, but by its successor.
        passed: Whether its verdict has come and did not block.
    """

    __slots__ = ("check_id", "end", "overlap", "passed", "start")

    def __init__(
        self, check_id: int, start: int, end: int, overlap: int, *, passed: bool = False
    ) -> None:
        self.check_id = check_id
        self.start = start
        self.end = end
        self.overlap = overlap
        self.passed = passed


class Cut(NamedTuple):
    """A new window with its strings.

    Args:
        window: The window.
        text: Its characters.
        context: The characters just before them.
    """

    window: Window
    text: str
    context: str


class ChannelWindows:
    """The text of one channel, kept only as far back as the next check needs it.

    Args:
        channel: The channel.
        settings: Sizes of windows; `Mode.HOLD` clears with look-ahead, the others without.
    """

    __slots__ = (
        "_early",
        "_forced_to",
        "_hold",
        "_open",
        "_overlap",
        "_parts",
        "_settings",
        "_stride",
        "_tail",
        "channel",
        "cleared",
        "ended",
        "issued",
        "judged",
        "received",
        "released",
        "urgent_to",
    )

    def __init__(self, channel: Channel, settings: StreamSettings) -> None:
        self.channel = channel
        self.received = 0
        self.issued = 0
        self.judged = 0
        self.cleared = 0
        self.released = 0
        self._forced_to = 0
        self.ended = False
        self.urgent_to = 0
        self._settings = settings
        self._hold = settings.mode is Mode.HOLD
        self._open: deque[Window] = deque()
        self._overlap = 0
        self._parts: list[str] = []
        self._tail = ""
        self._set_stride(settings.first_chars)

    def _set_stride(self, stride: float) -> None:
        # Rounded up, or a stride of one character would never grow by half.
        self._stride = math.ceil(min(stride, self._settings.stride_chars))
        self._early = self._stride - self._stride // _EARLY_SHARE

    @property
    def idle(self) -> bool:
        """Whether all that was received is judged and cleared."""
        return self.cleared == self.received

    def append(self, text: str) -> None:
        """Take in text; a channel that had ended is thereby open again."""
        self._parts.append(text)
        self.received += len(text)
        self.ended = False

    def due_before(self, text: str) -> bool:
        """Whether to issue before ``text`` comes in: it starts a word and the stride is near."""
        return self.received - self.issued >= self._early and text[0].isspace()

    def due(self) -> bool:
        """Whether what was received should be issued now."""
        new = self.received - self.issued
        if new >= self._stride:
            return True
        if new >= self._early and self._parts[-1][-1].isspace():
            return True
        return new > 0 and (self.ended or self.urgent_to > 0)

    def end(self) -> None:
        """Nothing follows: what is judged to the end is cleared to the end."""
        self.ended = True
        self._clear()

    def force(self, need: int) -> bool:
        """Give up as much look-ahead as it takes to clear the text up to ``need``.

        Args:
            need: Position that must be cleared by the next verdict.

        Returns:
            Whether that takes a new check, which is then due.
        """
        all_judged = self.judged == self.issued
        if need > self.issued or (all_judged and self.received > self.issued):
            self.urgent_to = need
            return True
        # Else wait for the check in flight that judges it, or judges it again with what
        # followed; give up look-ahead only where no such check will clear it.
        if need > self.judged or all_judged:
            self._forced_to = need
            self._clear()
        return False

    def cut(self, check_id: int) -> Cut:
        """Issue all text that has been received as one window.

        Args:
            check_id: The check that will cover it.

        Returns:
            The window with its text and context.
        """
        known = self._tail + "".join(self._parts)
        at = len(known) - (self.received - self.issued) - self._overlap
        start = self.issued - self._overlap
        context = known[max(0, at - self._settings.context_chars) : at]
        return Cut(self._issue(check_id, start, known), known[at:], context)

    def skip(self) -> int:
        """Count all text that is not issued yet as judged, without a check.

        Returns:
            How many characters were skipped.
        """
        skipped = self.received - self.issued
        if self._open and self._open[-1].check_id == _SKIPPED:
            self._open[-1].end = self.received
        else:
            self._open.append(Window(_SKIPPED, self.issued, self.received, 0, passed=True))
        self.issued = self.received
        self.urgent_to = 0
        self._overlap = 0
        self._tail = ""
        self._parts.clear()
        self._advance()
        return skipped

    def _issue(self, check_id: int, start: int, known: str) -> Window:
        new = self.received - self.issued
        self._overlap = 0 if self.ended else min(self._settings.lookahead_chars, new // 2)
        if self.urgent_to:
            self._overlap = min(self._overlap, self.received - self.urgent_to)
        window = Window(check_id, start, self.received, self._overlap)
        self._open.append(window)
        self.issued = self.received
        self.urgent_to = 0
        keep = self._overlap + self._settings.context_chars
        self._tail = known[-keep:] if keep else ""
        self._parts.clear()
        self._set_stride(self._stride * self._settings.growth)
        return window

    def settle(self, check_id: int) -> None:
        """Note that a check has passed; verdicts may come in any order.

        Args:
            check_id: The check that passed.
        """
        for window in self._open:
            if window.check_id == check_id:
                window.passed = True
                break
        self._advance()

    def _advance(self) -> None:
        while self._open and self._open[0].passed:
            window = self._open.popleft()
            self.judged = window.end
            self.cleared = max(self.cleared, window.end - window.overlap)
        self._clear()

    def _clear(self) -> None:
        sure = self._forced_to if self.judged >= self._forced_to else 0
        if not self._hold:
            sure = self.judged
        if self.ended and self.judged == self.received:
            sure = self.judged
        self.cleared = max(self.cleared, sure)
