"""What a text stands for, with the place of every character in it, so that it can be taken out.

`normalise` makes views for a model, which reads a text as a whole and decides by the look of all
of it whether something is disguised. To take a place out of a stream, a view has to be the same
whatever comes later: here every disguise is undone where it stands, by what is next to it alone,
and each view says from where on it is open. That so much more is undone does no harm: what is
looked for in a view are patterns, words and detectors, not a mood.

The views are made of one another:

    text ── plain ─┬─ tag characters      escapes, characters that do not show, look-alikes
                   ├─ letters set apart
                   ├─ leetspeak           words and patterns only, as rot13
                   ├─ rot13
                   └─ payloads            all that is encoded in base64 or hexadecimal
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from guardrail.classifier.normalise import (
    BASE64,
    COMMON,
    HEX,
    INVISIBLE,
    LEET,
    LEET_WORD,
    MAX_GROWTH,
    SPACED,
    fold_word,
)
from guardrail.classifier.origins import Mapped

__all__ = ["BETWEEN", "Layer", "layers"]

Edit = tuple[int, int, str]

MAX_RUN_CHARS: Final = 1_700
"""Longest run of letters set apart, and longest word, whose beginning is looked for."""
ROT13_AROUND_CHARS: Final = 120
"""Text on either side of a match whose words say whether it is rot13."""
READABLE: Final = 0.9
"""Share of characters from which what was decoded is a text."""
BETWEEN: Final = "\n\0\n"
"""What stands between two payloads, so that nothing is found across them."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One view of a text.

    Args:
        view: The view; None where nothing is disguised so far.
        settled: Characters of the text itself that this disguise leaves as they are, whatever
            follows.
        detectors: Whether detectors have anything to find in it.
        alone: Whether its places end with its parts, so that none goes on in what follows.
        confirm: Whether a place of the view counts; None as long as that depends on what follows.
    """

    view: Mapped | None
    settled: int
    detectors: bool = True
    alone: bool = False
    confirm: Callable[[int, int], bool | None] | None = None


def layers(base: Mapped, settled: int, *, ended: bool) -> Iterator[Layer]:
    """Undo the disguises of a text.

    Args:
        base: The text.
        settled: Its characters that nothing that follows can change.
        ended: Whether nothing follows.

    Yields:
        Views of it; the time is linear in its length.
    """
    if not ended:
        settled = _escape_from(base.text, settled)
    bare = base.edited(_signs(base.text))
    plain = bare if base.text.isascii() else bare.translated(_WORD.sub(fold_word, bare.text))
    end = plain.position(settled, base)
    if not ended and not (word := plain.text[_back(_WORD_BACK, plain.text, end) : end]).isascii():
        end -= len(word)  # whether it mixes scripts is not known before its end
    settled = min(settled, _base_of(plain, end, base))

    def until(start: int) -> int:
        return settled if ended else min(settled, _base_of(plain, start, base))

    yield Layer(plain if plain is not base else None, settled)
    if base is not bare is not plain:  # a word of look-alikes alone may be a word of its own script
        yield Layer(bare, settled)
    if _TAGS.search(base.text):
        hidden_from = settled if ended else min(settled, _back(_TAGS_BACK, base.text, settled))
        yield Layer(base.edited(_hidden(base.text)), hidden_from, alone=True)
    joined = plain.edited(_joined(plain.text))
    yield Layer(joined if joined is not plain else None, until(_apart_from(plain.text, end)))
    leet = plain
    if _LEET_HINT.search(plain.text):
        leet = plain.translated(LEET_WORD.sub(_unleet, plain.text))
    start = _back(_LEET_BACK, plain.text, end)
    yield Layer(leet if leet is not plain else None, until(start), detectors=False)
    turned = plain.translated(codecs.decode(plain.text, "rot13"))
    reads_so = _rot13_reader(plain.text, turned.text, end, ended=ended)
    yield Layer(turned, settled, detectors=False, confirm=reads_so)
    yield from _payloads(plain, until(end if ended else _encoded_from(plain.text, end)))


def _base_of(view: Mapped, at: int, base: Mapped) -> int:
    if at >= len(view.text):
        return len(base.text)
    return view.origin(at, at + 1, base)[0]


def _back(pattern: re.Pattern[str], text: str, end: int, most: int = MAX_RUN_CHARS) -> int:
    """Return where what a pattern matches from the end of a text backwards begins."""
    found = pattern.match(text[max(0, end - most) : end][::-1])
    return end - (found.end() if found else 0)


# --- what stands for single characters ----------------------------------------------------

_SIGN: Final = re.compile(
    r"\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}"
    # One character of UTF-8 at a time, so that no more than it goes with a place, or is kept.
    r"|%[0-7][0-9A-Fa-f]|%[C-Fc-f][0-9A-Fa-f](?:%[89ABab][0-9A-Fa-f]){1,3}|%[89A-Fa-f][0-9A-Fa-f]"
    # What has another plain form, or none; most letters of most scripts have not.
    "|[^\x00-\x7f\u00c0-\u012f\u0400-\u04ff\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3]"
)
_UNFINISHED: Final = re.compile(
    r"(?:(?:\\u[dD][89abAB][0-9A-Fa-f]{2})?\\(?:u[0-9A-Fa-f]{0,3})?"
    r"|\\u[dD][89abAB][0-9A-Fa-f]{2}"
    r"|(?:%[89A-Fa-f][0-9A-Fa-f])*%[0-9A-Fa-f]?|(?:%[89A-Fa-f][0-9A-Fa-f])+)\Z"
)
_TAGS: Final = re.compile("[\U000e0020-\U000e007e]{4,}")
_TAGS_BACK: Final = re.compile("[\U000e0020-\U000e007e]*")
_LETTER: Final = "0-9A-Za-z_\u00c0-\u058f\u1d00-\u1d7f"
_WORD: Final = re.compile(f"[{_LETTER}]+")
_WORD_BACK: Final = re.compile(f"[{_LETTER}]*")


def _escape_from(text: str, end: int) -> int:
    """Return where an escape begins that is not over yet."""
    begin = max(0, end - 48)
    last = text[begin:end]
    found = _UNFINISHED.search(last) if "\\" in last or "%" in last else None
    return begin + found.start() if found else end


def _signs(text: str) -> Iterator[Edit]:
    """Escapes, other forms of letters and digits, and characters that do not show."""
    if text.isascii() and "%" not in text and "\\u" not in text:
        return
    for found in _SIGN.finditer(text):
        yield found.start(), found.end(), _stands_for(found[0])


@lru_cache(4_096)
def _stands_for(sign: str) -> str:
    if sign[0] == "%":
        sign = bytes.fromhex(sign.replace("%", "")).decode("utf-8", "replace")
    elif sign[0] == "\\":
        units = b"".join(int(unit, 16).to_bytes(2) for unit in sign.split("\\u")[1:])
        sign = units.decode("utf-16-be", "replace")
    return "".join(_bare(character) for character in sign)


def _bare(character: str) -> str:
    if INVISIBLE.match(character):
        return ""
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    form = unicodedata.normalize("NFKC", character)
    return form if len(form) <= MAX_GROWTH else character


def _hidden(text: str) -> Iterator[Edit]:
    """Leave nothing but what is written in tag characters, which no screen shows."""
    last = 0
    for run in _TAGS.finditer(text):
        yield last, run.start(), BETWEEN
        for at, character in enumerate(run[0], run.start()):
            yield at, at + 1, chr(ord(character) - 0xE0000)
        last = run.end()
    yield last, len(text), ""


# --- letters set apart, leetspeak, rot13 ---------------------------------------------------

_APART: Final = re.compile(
    r"(?P<blanks>(?<![^\s\"'(\[<{])(?:\S[ \t]{1,3}){4,400}\S(?![^\s\"')\]>},;!?]))|"
    + SPACED.pattern
)
# What is looked for first, since it is quick and ordinary text has none of it.
_APART_HINT: Final = re.compile(r"[ \t.\-_*·]\S[ \t.\-_*·]{1,3}\S[ \t.\-_*·]")
_LEET_HINT: Final = re.compile(r"[A-Za-z][0134578@$!|]|[0134578@$!|][A-Za-z]")
_HEX_HINT: Final = re.compile(r"[2-7][0-9A-Fa-f][ ,\\0x]{0,3}[2-7][0-9A-Fa-f]")
_BASE64_HINT: Final = re.compile("[A-Za-z0-9+/_-]{16}")
_BLANKS: Final = re.compile(r"[ \t]+")
_SEPARATORS: Final = re.compile(r"[ \t]{2,}|[ \t.\-_*·]")
_APART_BACK: Final = re.compile(
    r"(?:[ \t]{1,3}|[.\-_*·])?(?:(?:\S(?:[ \t]{1,3}|[.\-_*·]))*(?:\S(?!\S)|\w(?!\w))"
    r"|(?:\S(?:[ \t]{1,3}|[.\-_*·]))+)"
)
_LEET_BACK: Final = re.compile("[A-Za-z0-9@$!|]{0,40}")


def _joined(text: str) -> Iterator[Edit]:
    """Take out what stands between letters that are set apart; wide gaps part words."""
    if not _APART_HINT.search(text):
        return
    for run in _APART.finditer(text):
        if sum(c.isalpha() for c in run[0]) < 5:
            continue
        between = _BLANKS if run["blanks"] else _SEPARATORS
        for gap in between.finditer(text, run.start(), run.end()):
            yield gap.start(), gap.end(), " " if len(gap[0]) > 1 else ""


def _apart_from(text: str, end: int) -> int:
    return _back(_APART_BACK, text, end)


def _unleet(word: re.Match[str]) -> str:
    shown = word[0]
    if shown.isalpha() or 2 * sum(c.isdigit() for c in shown) > len(shown):
        return shown
    return shown.translate(LEET)


def _rot13_reader(
    text: str, turned: str, end: int, *, ended: bool
) -> Callable[[int, int], bool | None]:
    """Return what tells whether the words around a place make sense only when turned."""

    def reads_so(start: int, stop: int) -> bool | None:
        first = max(0, start - ROT13_AROUND_CHARS)
        first = max(first, text.rfind("\n", first, start) + 1)
        last = text.find("\n", stop, stop + ROT13_AROUND_CHARS)
        if last < 0:
            last = min(len(text), stop + ROT13_AROUND_CHARS)
            if not ended and stop + ROT13_AROUND_CHARS > end:
                return None
        before, after = (re.findall("[a-z]+", t[first:last].lower()) for t in (text, turned))
        known = sum(word in COMMON for word in after)
        return (
            known >= 2
            and known >= 0.25 * len(after)
            and known > 2 * sum(word in COMMON for word in before)
        )

    return reads_so


# --- payloads -------------------------------------------------------------------------------

_BASE64_BACK: Final = re.compile(r"[A-Za-z0-9+/_=-]*")
_TOKEN_BACK: Final = re.compile(r"[0-9A-Za-z\\]*")
_HEX_TOKENS: Final = re.compile(r"(?<![0-9A-Za-z\\])(?:(?:0x|\\x)?[0-9A-Fa-f]{2}[ ,]?)++")
_HEX_BEGUN: Final = re.compile(r"(?:(?:0x|\\x)?[0-9A-Fa-f]{2})*(?:0x?|\\x?)?[0-9A-Fa-f]?")


def _payloads(plain: Mapped, settled: int) -> Iterator[Layer]:
    """All that is encoded in a text, decoded, and the plain forms of that."""
    yield Layer(None, settled)
    kinds = ((_BASE64_HINT, BASE64, _from_base64), (_HEX_HINT, HEX, _from_hex))
    for hint, pattern, decode in kinds:
        if not hint.search(plain.text):
            continue
        found = list(_decoded(plain.text, pattern, decode))
        if len(found) > 1:
            view = plain.edited(found)
            yield Layer(view, settled, alone=True)
            yield Layer(view.edited(_signs(view.text)), settled, alone=True)


def _decoded(text: str, pattern: re.Pattern[str], decode: Callable[[str], bytes]) -> Iterator[Edit]:
    last = 0
    for run in pattern.finditer(text):
        try:
            shown = _readable(decode(run[0]))
        except (binascii.Error, ValueError):
            continue
        if shown:
            yield last, run.start(), BETWEEN
            yield run.start(), run.end(), shown
            last = run.end()
    yield last, len(text), ""


def _from_base64(run: str) -> bytes:
    body = run.rstrip("=").replace("-", "+").replace("_", "/")
    body = body[:-1] if len(body) % 4 == 1 else body
    return base64.b64decode(body + "=" * (-len(body) % 4))


def _from_hex(run: str) -> bytes:
    digits = re.sub(r"0x|\\x|[ ,]", "", run)
    return bytes.fromhex(digits[: len(digits) // 2 * 2])


def _readable(data: bytes) -> str | None:
    """Return bytes as text, if most of it can be read."""
    text = data.decode("utf-8", "replace")
    good = sum(c != "\ufffd" and (c.isprintable() or c in "\t\n\r") for c in text)
    return text if good >= READABLE * len(text) else None


def _encoded_from(text: str, end: int) -> int:
    """Return where a run begins that may be a payload and may go on."""
    return min(_back(_BASE64_BACK, text, end, end), _hex_from(text, end))


def _hex_from(text: str, end: int) -> int:
    begin = _back(_TOKEN_BACK, text, end, end)
    if not _HEX_BEGUN.fullmatch(text, begin, end):
        return end
    for run in _HEX_TOKENS.finditer(text, 0, begin):
        if run.end() == begin and text[begin - 1] in " ,":
            return run.start()
    return begin
