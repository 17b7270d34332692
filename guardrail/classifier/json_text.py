"""Texts that are JSON, such as the arguments of tools, read as they come: cut anywhere.

A place that is found in one is a place in what its strings say. It is taken out so that JSON
stays: no escape is cut, what stands for it is escaped, and a number becomes a string.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from guardrail.classifier.origins import Mapped

__all__ = ["BEGIN", "JsonPiece", "JsonState", "JsonText"]

MAX_UNSURE_CHARS: Final = 256
"""Blanks after which a text that begins with a bracket is not waited for any longer."""

_SCALAR, _STRING, _KEY = range(3)
"""Kinds of tokens."""

Edit = tuple[int, int, str]

_BEGINS: Final = re.compile(r"\s*+(?:\{\s*+[\"}]|\[\s*+[\[{\"])")
_MAY_BEGIN: Final = re.compile(r"\s*+(?:[\[{]\s*+)?\Z")
_TOKEN: Final = re.compile(r'"|[\[{]|[\]}]|[^\s{}\[\],:"]++')
_BODY: Final = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_COLON: Final = re.compile(r'"\s*+:')
_ESCAPE: Final = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([^u]))",
    re.DOTALL,
)
_PARTIAL: Final = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_HALF: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")
_ONE: Final = MappingProxyType({"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"})


class Form(Enum):
    """How a text, or a part of one, is written."""

    UNSURE = "unsure"
    JSON = "json"
    PROSE = "prose"


@dataclass(frozen=True, slots=True)
class JsonState:
    """Where one stands in a text.

    Args:
        form: What the text turned out to be.
        depth: Open brackets.
        quoted: Whether inside of a string.
    """

    form: Form = Form.UNSURE
    depth: int = 0
    quoted: bool = False


BEGIN: Final = JsonState()
"""The beginning of a text."""


@dataclass(frozen=True, slots=True)
class JsonPiece:
    """A place that can be replaced without harm to what is around it.

    Args:
        start: Its first character.
        end: The character after its last.
        quoted: Whether inside of a string; None in prose, where nothing is written specially.
    """

    start: int
    end: int
    quoted: bool | None

    def written(self, shown: str) -> str:
        """Return how a text is written here: a number's place takes a whole string."""
        if self.quoted is None:
            return shown
        text = json.dumps(shown, ensure_ascii=False)
        return text[1:-1] if self.quoted else text


class JsonText:
    """A text that may be JSON, from some place on.

    Args:
        raw: The text from there on.
        state: Where that is.
        ended: Whether nothing follows.

    Attributes:
        plain: What it says: the escapes of its strings undone; the text itself where it is prose.
        settled: Characters whose reading nothing that follows can change.
    """

    def __init__(self, raw: str, state: JsonState = BEGIN, *, ended: bool = True) -> None:
        self._marks = array("q")
        self._states = array("q")  # depth, doubled, and whether quoted; -1 where prose begins
        self._starts = array("q")
        self._ends = array("q")
        self._kinds = bytearray()
        self.settled = len(raw)
        if state.form is Form.UNSURE:
            state = self._begun(raw, ended)
        self._state = state
        self._prose_at = 0 if state.form is not Form.JSON else len(raw)
        self.plain = Mapped(raw)
        if state.form is Form.JSON:
            self.plain = self.plain.edited(self._read(raw, state, ended))

    def _begun(self, raw: str, ended: bool) -> JsonState:
        if _BEGINS.match(raw):
            return JsonState(Form.JSON)
        if not ended and len(raw) <= MAX_UNSURE_CHARS and _MAY_BEGIN.match(raw):
            self.settled = 0
            return BEGIN
        return JsonState(Form.PROSE)

    def _read(self, raw: str, state: JsonState, ended: bool) -> Iterator[Edit]:
        """Take note of the parts of a text; yield the escapes in it."""
        depth, at = state.depth, 0
        if state.quoted:
            at = yield from self._string(raw, 0, depth, ended)
        while (token := _TOKEN.search(raw, at)) is not None:
            at = token.end()
            if token[0] == '"':
                self._mark(at, 2 * depth + 1)
                at = yield from self._string(raw, at, depth, ended)
            elif token[0] in "[{":
                depth += 1
                self._mark(at, 2 * depth)
            elif token[0] in "]}":
                depth -= 1
                if depth <= 0:  # what follows is no part of it
                    self._prose_at = at
                    self._mark(at, -1)
                    return
                self._mark(at, 2 * depth)
            else:
                self._token(token.start(), at, _SCALAR)
                if at == len(raw) and not ended:
                    self.settled = token.start()

    def _mark(self, at: int, state: int) -> None:
        self._marks.append(at)
        self._states.append(state)

    def _token(self, start: int, end: int, kind: int) -> None:
        self._starts.append(start)
        self._ends.append(end)
        self._kinds.append(kind)

    def _string(self, raw: str, start: int, depth: int, ended: bool) -> Generator[Edit, None, int]:
        """Read a string from its first character; return where what follows it begins."""
        body = _BODY.match(raw, start)
        end = body.end() if body else start
        closed = raw[end : end + 1] == '"'
        if not closed:
            end = len(raw)  # at most a single backslash more
        self._token(start, end, _KEY if _COLON.match(raw, end) else _STRING)
        last = start
        for edit in _unescaped(raw, start, end):
            yield edit
            last = edit[1]
        if closed:
            self._mark(end + 1, 2 * depth)
            return end + 1
        if not ended:
            partial = _PARTIAL.search(raw, last)
            self.settled = partial.start() if partial else len(raw)
            if last == self.settled and _HALF.fullmatch(raw, max(start, last - 6), last):
                self.settled = last - 6  # half of a pair, and the other half may follow
        return end

    def boundary(self, at: int) -> int:
        """Return the first position from ``at`` on that does not cut an escape."""
        return self.plain.clear(at)

    def state(self, at: int) -> JsonState:
        """Return where one stands at a position that `boundary` returned."""
        number = bisect_right(self._marks, at) - 1
        if number < 0:
            return self._state
        state = self._states[number]
        form = Form.PROSE if state < 0 else Form.JSON
        return JsonState(form, max(0, state // 2), form is Form.JSON and state % 2 == 1)

    def pieces(self, start: int, end: int) -> list[JsonPiece]:
        """Cut a place into what can be replaced in it.

        Args:
            start: Its first character.
            end: The character after its last.

        Returns:
            The strings' parts, the numbers and the prose in it. Keys are left standing where it
            is about more than a key.
        """
        tokens = range(bisect_right(self._ends, start), bisect_left(self._starts, end))
        pieces = []
        keys_alone = all(self._kinds[n] == _KEY for n in tokens) and end <= self._prose_at
        for number in tokens:
            first, last, kind = self._starts[number], self._ends[number], self._kinds[number]
            if kind == _SCALAR:
                pieces.append(JsonPiece(first, last, False))
            elif keys_alone or kind == _STRING:
                pieces.append(JsonPiece(max(start, first), min(end, last), True))
        if end > self._prose_at:
            pieces.append(JsonPiece(max(start, self._prose_at), end, None))
        # Nothing but brackets and commas: what was found goes all the same.
        return pieces or [JsonPiece(start, end, None)]


def _unescaped(raw: str, start: int, end: int) -> Iterator[Edit]:
    """Yield the escapes of a string and their characters; half a pair is U+FFFD."""
    for found in _ESCAPE.finditer(raw, start, end):
        high, low, unit, one = found.groups()
        if high:
            code = 0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00
            character = chr(code)
        elif unit:
            code = int(unit, 16)
            character = chr(code) if not 0xD800 <= code < 0xE000 else "\ufffd"
        else:
            character = _ONE.get(one, one)
        yield found.start(), found.end(), character
