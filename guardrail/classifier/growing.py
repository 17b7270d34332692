"""Texts that come piece by piece, and the places in them that are to be taken out.

Text is settled once nothing that follows can change what is found in it. What is open is read
again as it grows, together with a little of what went before.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Final

from guardrail.classifier.json_text import BEGIN
from guardrail.classifier.matches import Match, MatchFinder

__all__ = ["MAX_OPEN_CHARS", "GrowingText", "shown_in"]

MAX_OPEN_CHARS: Final = 8_192
"""Longest open end: a private key is shorter. What is open beyond it goes as it stands."""
READ_AGAIN: Final = 8
"""An open end is read again once an eighth of it has come anew. So what is read is, but for
`CONTEXT_CHARS` at a time, at most nine times what comes, and waits by an eighth longer."""
_GAP: Final = re.compile(r"\W")
CONTEXT_CHARS: Final = 256
"""Text before the open end that patterns see, for what they ask of its surroundings."""


class GrowingText:
    """A text: how far it is settled, and the places in what is open.

    Positions count characters from its start.

    Args:
        finder: Finds places in it.
        counts: Takes their number, by kind.
        head: Characters at its start that another text had: what stands in them was taken out
            there, and they only say how what follows reads.
        fixed: Whether nothing can be taken out of it.
    """

    __slots__ = ("_counts", "_finder", "_known", "_known_at", "_parts", "_read", "_state",
                 "fixed", "places", "received", "settled")  # fmt: skip

    def __init__(
        self, finder: MatchFinder, counts: Counter[str], head: int = 0, *, fixed: bool = False
    ) -> None:
        self._finder = finder
        self._counts = counts
        self._known = ""
        self._known_at = 0
        self._state = BEGIN
        self._parts: list[str] = []
        self._read = 0
        self.received = 0
        self.settled = head
        self.fixed = fixed
        self.places: list[Match] = []

    def append(self, text: str) -> int:
        """Take in text; return where it begins."""
        self._parts.append(text)
        start = self.received
        self.received += len(text)
        return start

    def due(self, more: int = 0) -> bool:
        """Return whether enough is unread, or would be with more text, to read all that is open."""
        unread = self.received + more - self._read
        return unread > 0 and READ_AGAIN * unread >= self._read - self.settled

    def settle(self, *, ended: bool) -> None:
        """Find what is settled by now."""
        if not self._parts and not ended:
            return
        self._read = self.received
        text = self._known + "".join(self._parts)
        self._parts.clear()
        found = self._finder.read(text, self._state, ended=ended)
        places = found.places
        open_at = found.text.boundary(max(found.settled, len(text) - MAX_OPEN_CHARS))
        settled = max(self.settled, self._known_at + open_at)
        for place in places:
            start = max(place.start + self._known_at, self.settled)
            end = min(place.end + self._known_at, settled)  # beyond the bound it goes as it stands
            if start < end:
                self.places.append(Match(start, end, place.category, place.kind, place.shown))
                self._counts[place.kind] += 1
        self.settled = settled
        keep = found.text.boundary(_context_from(text, open_at, places))
        self._state = found.text.state(keep)
        self._known, self._known_at = text[keep:], self._known_at + keep

    def forget(self, position: int) -> None:
        """Drop places before a position that was released."""
        del self.places[: bisect_right(self.places, position, key=lambda place: place.end)]


def _context_from(text: str, open_at: int, places: Sequence[Match]) -> int:
    """Return where the context begins: between words, and in no place.

    Matches are then found as in the whole text: none that began before the context goes on in it.
    """
    at = max(0, open_at - CONTEXT_CHARS)
    if at > 0:
        gap = _GAP.search(text, at, open_at)
        at = gap.start() if gap else at
    for place in places:
        if place.start < at < place.end:
            at = min(place.end, open_at)
    return at


def shown_in(text: str, start: int, end: int, places: Sequence[Match], base: int) -> str:
    """Return the text of ``[start, end)`` with what stands for the places in it.

    A place that began before ``start`` has been shown there already.
    """
    parts: list[str] = []
    at = start
    for place in places[max(0, bisect_right(places, start, key=lambda p: p.end)) :]:
        if place.start >= end:
            break
        parts.append(text[at - base : max(at, place.start) - base])
        if place.start >= start:
            parts.append(place.shown)
        at = min(place.end, end)
    parts.append(text[at - base : end - base])
    return "".join(parts)
