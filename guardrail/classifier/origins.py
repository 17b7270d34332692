"""Texts made of other texts, which know where each of their characters came from."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable

__all__ = ["Mapped"]


class Mapped:
    """A text, and the place of each character in the text that it was made of.

    Args:
        text: The text.
        source: What it was made of; None for a text that stands for itself. Where nothing else
            is said, each character stands for the one at its own position.
    """

    __slots__ = ("_at", "_end", "_start", "_to", "source", "text")

    def __init__(self, text: str, source: Mapped | None = None) -> None:
        self.text = text
        self.source = source
        # Edit n put the own characters [at, to) in place of the source's [start, end). Hostile
        # text is all edits, so they are kept small.
        self._at = array("q")
        self._to = array("q")
        self._start = array("q")
        self._end = array("q")

    def edited(self, edits: Iterable[tuple[int, int, str]]) -> Mapped:
        """Return this text with other texts in some of its places.

        Args:
            edits: Start, end and the new text of each place, in order, without overlap.

        Returns:
            The new text; this one where nothing changes.
        """
        made = Mapped("", self)
        parts: list[str] = []
        size = last = 0
        for start, end, shown in edits:
            if self.text[start:end] == shown:
                continue
            parts += (self.text[last:start], shown)
            size += start - last + len(shown)
            last = end
            if len(shown) == end - start == 1:
                continue  # stands where it stood
            gap = made._at[-1] == made._to[-1] == size if made._at else False
            if gap and not shown and made._end[-1] == start:
                made._end[-1] = end
                continue
            made._start.append(start)
            made._end.append(end)
            made._at.append(size - len(shown))
            made._to.append(size)
        if not parts:
            return self
        made.text = "".join((*parts, self.text[last:]))
        return made

    def translated(self, text: str) -> Mapped:
        """Return a text of the same length that stands for this one, character by character."""
        return self if text == self.text else Mapped(text, self)

    def origin(self, start: int, end: int, root: Mapped | None = None) -> tuple[int, int]:
        """Return the place of the first text that a place in this one stands for.

        Args:
            start: Its first character.
            end: The character after its last; beyond ``start``.
            root: The text to go back to; the very first one by default.
        """
        if self.source is None or self is root:
            return start, end
        if start < end:
            start, end = self._whence(start)[0], self._whence(end - 1)[1]
        else:  # something was put between two characters
            beyond = start >= len(self.text)
            start = end = len(self.source.text) if beyond else self._whence(start)[0]
        return self.source.origin(start, end, root)

    def clear(self, at: int) -> int:
        """Return the first position of the source from ``at`` on that cuts no edit."""
        number = bisect_right(self._start, at) - 1
        return at if number < 0 or at == self._start[number] else max(at, self._end[number])

    def _whence(self, at: int) -> tuple[int, int]:
        number = bisect_right(self._at, at) - 1
        if number < 0:
            return at, at + 1
        if at < self._to[number]:
            return self._start[number], self._end[number]
        place = self._end[number] + at - self._to[number]
        return place, place + 1

    def position(self, at: int, root: Mapped | None = None) -> int:
        """Return how many characters come of the first ``at`` characters of the first text.

        Args:
            at: A position; where it lies inside an edit, the edit does not count.
            root: The text that it is a position of; the very first one by default.
        """
        if self.source is None or self is root:
            return at
        at = self.source.position(at, root)
        number = bisect_right(self._end, at) - 1
        own = at if number < 0 else self._to[number] + at - self._end[number]
        later = number + 1
        return min(own, self._at[later]) if later < len(self._at) else own
