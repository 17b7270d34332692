"""Places in a text that rules with ``action: redact`` find, and how far they are settled.

In a stream a place may go on in text that has not come yet. Each finder therefore says from
where on the end of a text is open; what lies before it is as it will be in the whole text. A
detector knows the characters that its finds are made of, so that mostly nothing but the last
word is open. A pattern may be anything: its last `PATTERN_CHARS` characters are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from guardrail.classifier.detectors import DETECTORS
from guardrail.classifier.json_text import BEGIN, JsonState, JsonText
from guardrail.classifier.origins import Mapped
from guardrail.classifier.undisguised import BETWEEN, Layer, layers
from guardrail.policy import Detector, Rule
from guardrail.policy.patterns import compile_pattern, compile_words
from guardrail.policy.redaction import placeholder_for

__all__ = ["PATTERN_CHARS", "Found", "Match", "MatchFinder"]

PATTERN_CHARS: Final = 128
"""In a stream a pattern must show itself within so many characters of where it begins."""

MAX_BACKSLASHES: Final = 64
"""Backslashes before a place that are counted: JSON six times in JSON."""

Span = tuple[int, int]
Tail = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Match:
    """A place in a text, and what is to stand there.

    Args:
        start: Its first character.
        end: The character after its last.
        category: Category key.
        kind: The detector's name, or the category.
        shown: What stands for it.
    """

    start: int
    end: int
    category: str
    kind: str
    shown: str


def _last(most: int) -> Tail:
    return lambda text: max(0, len(text) - most)


def _run(characters: str, most: int, around: str = "") -> Tail:
    """Return where a run of characters that reaches the end of a text begins.

    Args:
        characters: Inside of a character class.
        most: Longest run that is looked at.
        around: Characters of the run that cannot begin a find.
    """
    run = re.compile(f"[{characters}]*")

    def tail(text: str) -> int:
        backwards = text[: -most - 1 : -1]  # matched from the end, so that the time is linear
        found = run.match(backwards)
        length = found.end() if found else 0
        return len(text) - len(text[len(text) - length :].lstrip(around)) if length else len(text)

    return tail


_EMAIL_RUN: Final = _run(r"\w.%+@-", 400)


def _email(text: str) -> int:
    """A local part has at most 64 characters, so that of a long word only its end is open."""
    start = _EMAIL_RUN(text)
    at = text.find("@", start)
    return max(start, (at if at >= 0 else len(text)) - 65)


_URL_RUN: Final = _run(r"\S", 2_048)


def _url(text: str) -> int:
    start = _URL_RUN(text)
    marks = [at for mark in ("://", "www.") if (at := text.find(mark, start)) >= 0]
    return max(start, (min(marks) if marks else len(text)) - 24)


_NUMBER: Final = re.compile(r"[+(\[]?\d[\d \t()\[\].\-/+~;,x#]*")
_EXTENSION_CHARS: Final = 24


def _phone(text: str) -> int:
    """A number may go on after a few other characters, as in ``ext. 12``."""
    base = max(0, len(text) - 160)
    at = len(text)
    for found in reversed(list(_NUMBER.finditer(text, base))):
        if found.end() < at - _EXTENSION_CHARS:
            break
        at = found.start()
    return at


_KEY: Final = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY[A-Z ]{0,20}-----")
_KEY_END: Final = re.compile(r"-----END [A-Z ]{0,40}PRIVATE KEY[A-Z ]{0,20}-----")


def _keys(text: str) -> Iterator[Span]:
    """Find private keys from their first line to their last: plug-ins find the first only."""
    at = 0
    while (begin := _KEY.search(text, at)) is not None:
        end = _KEY_END.search(text, begin.end())
        at = end.end() if end else len(text)
        yield begin.start(), at


def _secret(text: str) -> int:
    """Some plug-ins look for a word before the secret on the same line."""
    line = text.rfind("\n") + 1
    at = max(line, len(text) - 200)
    opened = [start for start, end in _keys(text) if end == len(text)]
    return min([at, *opened])


_IBAN: Final = re.compile(r"\b[A-Z](?:[A-Z](?:[0-9](?:[0-9](?: ?[A-Z0-9]){0,30} ?)?)?)?$")


def _iban(text: str) -> int:
    found = _IBAN.search(text, max(0, len(text) - 70))
    return found.start() if found else len(text)


_TAILS: Final[Mapping[Detector, Tail]] = MappingProxyType(
    {
        Detector.EMAIL: _email,
        Detector.PHONE: _phone,
        Detector.PAYMENT_CARD: _run("0-9 -", 200, " -"),
        Detector.IBAN: _iban,
        Detector.US_SSN: _run("0-9-", 64, "-"),
        Detector.IP_ADDRESS: _run("0-9.", 64, "."),
        Detector.SECRETS: _secret,
        Detector.URL: _url,
        Detector.INVISIBLE: _run(r"^\x00-\x7f", 64),
    }
)


@dataclass(frozen=True, slots=True)
class _Finder:
    """One pattern, word list or detector of one rule."""

    category: str
    kind: str
    shown: str
    find: Callable[[str], Iterator[Span]]
    tail: Tail
    detector: bool = False


def _finders(rule: Rule) -> Iterator[_Finder]:
    own = (rule.category, rule.category, placeholder_for(rule, rule.category))
    for pattern in rule.matchers.patterns:
        yield _Finder(*own, _all(compile_pattern(pattern).find), _last(PATTERN_CHARS))
    if rule.matchers.words:
        longest = max(map(len, rule.matchers.words))
        yield _Finder(*own, _all(compile_words(rule.matchers.words).find), _last(longest + 16))
    for detector in rule.matchers.detectors:
        kind = detector.value
        named = (rule.category, kind, placeholder_for(rule, kind))
        yield _Finder(*named, _all(DETECTORS[detector]), _TAILS[detector], True)
        if detector is Detector.SECRETS:
            yield _Finder(*named, _keys, _secret, True)


def _all(find: Callable[[str, int], Iterator[Span]]) -> Callable[[str], Iterator[Span]]:
    """Every match counts: one that is left out would travel on."""
    return lambda text: find(text, len(text))


@dataclass(frozen=True, slots=True)
class Found:
    """What is to be taken out of a text, or of one as far as it has come.

    Args:
        places: The places, in order, without overlap; what stands for each is written as its
            surroundings ask for.
        settled: Up to where nothing that follows can change them.
        text: How the text reads.
    """

    places: list[Match]
    settled: int
    text: JsonText


class MatchFinder:
    """Finds what a set of rules redacts, disguised or not.

    Args:
        rules: Rules with patterns, words or detectors.
        disguises: Whether what disguised text stands for is searched, too.
    """

    def __init__(self, rules: Sequence[Rule], *, disguises: bool = True) -> None:
        self._finders = [finder for rule in rules for finder in _finders(rule)]
        self._wordy = [finder for finder in self._finders if not finder.detector]
        self._disguises = disguises

    def find(self, text: str) -> list[Match]:
        """Return the places in a whole text, in order; those that overlap are one place.

        Args:
            text: Any text; the time is linear in its length.
        """
        return self.read(text, BEGIN, ended=True).places

    def read(self, text: str, state: JsonState, *, ended: bool) -> Found:
        """Find the places in a part of a text.

        Args:
            text: The part; its places do not begin before it.
            state: Where in the text it begins.
            ended: Whether the text ends with it.
        """
        shaped = JsonText(text, state, ended=ended)
        base = shaped.plain
        # What is not yet read for certain may be anything: places are only settled before it.
        sure = base.position(shaped.settled)
        places = list(self._matches(self._finders, base.text))
        settled = self._tail(self._finders, base.text[:sure])
        if self._disguises:
            for layer in layers(base, sure, ended=ended):
                new, at = self._behind(layer, base)
                places += new
                settled = min(settled, at)
        if ended:
            settled = len(base.text)
        joined = [_with_escape(place, base.text) for place in _joined(places)]
        for place in reversed(joined):
            if place.end > settled:
                settled = min(settled, place.start)
        if settled < len(base.text):
            settled -= _is_escaped(base.text, settled)
        raw = len(text) if settled >= len(base.text) else base.origin(settled, settled + 1)[0]
        written = _written(joined, shaped)
        # A number goes as a whole, its sign too, which is no part of the place.
        within = (place.start for place in written if place.start < raw < place.end)
        return Found(written, next(within, raw), shaped)

    def _behind(self, layer: Layer, base: Mapped) -> tuple[list[Match], int]:
        """Find places in a view, and up to where they are settled; both in the text itself."""
        finders = self._finders if layer.detectors else self._wordy
        view, settled = layer.view, layer.settled
        if view is None or not finders:
            return [], settled
        places = []
        for place in self._matches(finders, view.text):
            counts = layer.confirm is None or layer.confirm(place.start, place.end)
            first, last = place.start, place.end
            if layer.alone:  # what stands between two payloads is none of it
                first = last - len(view.text[first:last].lstrip(BETWEEN))
                last = first + len(view.text[first:last].rstrip(BETWEEN))
            if first == last:
                continue
            start, end = view.origin(first, last, base)
            if counts:
                places.append(replace(place, start=start, end=end))
            elif counts is None:
                settled = min(settled, start)
        if layer.alone:
            return places, settled
        tail = self._tail(finders, view.text[: view.position(settled, base)])
        if tail < len(view.text):
            settled = min(settled, view.origin(tail, tail + 1, base)[0])
        return places, settled

    @staticmethod
    def _matches(finders: Sequence[_Finder], text: str) -> Iterator[Match]:
        for finder in finders:
            for start, end in finder.find(text):
                yield Match(start, end, finder.category, finder.kind, finder.shown)

    @staticmethod
    def _tail(finders: Sequence[_Finder], text: str) -> int:
        return min((finder.tail(text) for finder in finders), default=len(text))


def _joined(places: list[Match]) -> list[Match]:
    """Make places that overlap one; the first says what it is."""
    places.sort(key=lambda place: (place.start, -place.end))
    joined: list[Match] = []
    for place in places:
        last = joined[-1] if joined else None
        if last is None or place.start >= last.end:
            joined.append(place)
        elif place.end > last.end:
            joined[-1] = replace(last, end=place.end)
    return joined


def _with_escape(place: Match, text: str) -> Match:
    """Take the backslash before a place with it: JSON in a string, or code, may stand there."""
    return replace(place, start=place.start - 1) if _is_escaped(text, place.start) else place


def _is_escaped(text: str, at: int) -> bool:
    if text[at - 1 : at] != "\\" or text[at] not in 'bfnrtu"/':
        return False
    begin = max(0, at - MAX_BACKSLASHES)
    return (at - begin - len(text[begin:at].rstrip("\\"))) % 2 == 1


def _written(places: Sequence[Match], text: JsonText) -> list[Match]:
    """Return places where they can be taken out, with what is written there."""
    made: list[Match] = []
    for place in places:
        for piece in text.pieces(*text.plain.origin(place.start, place.end)):
            if piece.start < piece.end and (not made or piece.start >= made[-1].end):
                shown = piece.written(place.shown)
                made.append(replace(place, start=piece.start, end=piece.end, shown=shown))
    return made
