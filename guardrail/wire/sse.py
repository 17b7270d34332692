"""Server-sent events, decoded incrementally with their bytes kept.

Written from the event stream section of the HTML standard
(https://html.spec.whatwg.org/multipage/server-sent-events.html). It knows events, not dialects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guardrail.errors import WireError

__all__ = ["MAX_EVENT_BYTES", "SseDecoder", "SseEvent", "comment", "write_event"]

MAX_EVENT_BYTES = 1_048_576
"""Bound on one event; a whole Responses object in a terminal event stays well below."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_UNREAD = frozenset({b"", b"id", b"retry"})
"""Names of comments and of fields that carry no text."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event: all bytes since the one before, its blank line included.

    Args:
        raw: The bytes as they came.
        name: Value of the last ``event`` field, or None.
        data: The ``data`` lines joined by newlines, or None where there are none.
        damaged: Whether the bytes are not UTF-8 (``data`` then has replacement characters), or
            a line is no field of the standard: text that only looks like an event stream.
        cut: Whether the stream ended inside it.
    """

    raw: bytes
    name: str | None = None
    data: str | None = None
    damaged: bool = False
    cut: bool = False


class SseDecoder:
    """Splits a byte stream into events, the same however the bytes arrive.

    Args:
        max_event_bytes: Bound on one event.
    """

    __slots__ = (
        "_buffer",
        "_fields",
        "_line",
        "_lone_cr",
        "_max",
        "_over",
        "_scan",
        "_skip_lf",
        "_started",
    )

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._buffer = bytearray()
        self._line = 0  # where the current line starts
        self._scan = 0  # where the search for its end goes on
        self._fields: list[bytes] = []
        self._lone_cr = False  # the line before ended in CR alone
        self._skip_lf = False  # an LF here belongs to a CR that has ended an event
        self._started = False
        self._over = False

    def feed(self, data: bytes) -> list[SseEvent]:
        """Take bytes and return the events that they complete.

        Args:
            data: The next bytes of the stream.

        Returns:
            Complete events in order.

        Raises:
            WireError: An event exceeds the bound.
        """
        self._buffer += data
        events: list[SseEvent] = []
        while not self._over and (end := self._next_line()) is not None:
            if end:
                if self._line > self._max:
                    self._over = True
                else:
                    events.append(self._take())
        self._over = self._over or len(self._buffer) > self._max
        if self._over and not events:  # else the next call raises: those events are whole
            raise WireError(f"an event of the answer is larger than {self._max} bytes")
        return events

    def flush(self) -> list[SseEvent]:
        """Return what is left when the stream has closed: one event, or none.

        Raises:
            WireError: An event exceeds the bound.
        """
        if self._over:
            raise WireError(f"an event of the answer is larger than {self._max} bytes")
        if not self._buffer:
            return []
        tail = bytes(self._buffer[self._line :])
        whole = tail == b"\r" or not (tail or self._fields)
        if not whole and tail:
            self._fields.append(tail.rstrip(b"\r\n"))
        self._line = len(self._buffer)
        return [self._take(cut=not whole)]

    def _next_line(self) -> bool | None:
        """Move past one line; return whether it ended an event, or None if it is not whole."""
        buffer = self._buffer
        if self._skip_lf and buffer:
            self._skip_lf = False
            if buffer[0] == 10:  # it stays in the buffer: the next event's bytes begin with it
                self._line = self._scan = 1
        match = _LINE_END.search(buffer, self._scan)
        if match is None:
            self._scan = len(buffer)
            return None
        start, end = match.span()
        blank = start == self._line
        if match.group() == b"\r":
            # A CR at the end of what came may be half a CRLF. Waiting for it would delay the
            # event of a peer that ends lines in CR alone, so a blank line after such a line
            # ends there, and an LF that follows is skipped.
            if end == len(buffer) and not (blank and self._lone_cr):
                self._scan = start
                return None
            if blank and self._lone_cr:
                self._skip_lf = True
        elif blank and self._lone_cr and match.group() == b"\r\n":
            end = start + 1
            self._skip_lf = True
        line = bytes(buffer[self._line : start])
        self._lone_cr = buffer[start] == 13 and (end - start) == 1
        self._line = self._scan = end
        if blank:
            return True
        self._fields.append(line)
        return False

    def _take(self, *, cut: bool = False) -> SseEvent:
        raw = bytes(self._buffer[: self._line])
        del self._buffer[: self._line]
        self._line = self._scan = 0
        fields, self._fields = self._fields, []
        if not self._started:
            self._started = True
            if fields and fields[0].startswith(_BOM):
                fields[0] = fields[0][len(_BOM) :]
        return _decode(raw, fields, cut=cut)


def _decode(raw: bytes, fields: list[bytes], *, cut: bool) -> SseEvent:
    name: str | None = None
    data: list[str] = []
    damaged = False
    for line in fields:
        key, _, value = line.partition(b":")
        if key not in (b"data", b"event"):
            damaged = damaged or key not in _UNREAD
            continue
        try:
            text = value.removeprefix(b" ").decode("utf-8")
        except UnicodeDecodeError:
            damaged = True
            text = value.removeprefix(b" ").decode("utf-8", "replace")
        if key == b"data":
            data.append(text)
        else:
            name = text
    return SseEvent(raw, name, "\n".join(data) if data else None, damaged, cut)


def write_event(payload: Mapping[str, Any] | str, *, name: str | None = None) -> bytes:
    """Return one event as bytes.

    Args:
        payload: An object to write as JSON, or a word such as ``[DONE]``.
        name: Value of the ``event`` field, or None for no such field.
    """
    data = payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data}\n\n".encode()


def comment(name: str, data: Mapping[str, Any]) -> bytes:
    """Return a comment with its blank line: ``: name {json}``.

    Args:
        name: First word of the comment.
        data: Written as JSON; JSON escapes line ends, so that nothing can leave the comment.
    """
    word = "".join(c for c in name if c.isprintable())
    return f": {word} {json.dumps(data, separators=(',', ':'))}\n\n".encode()
