"""Undoes disguises before scoring: what a text stands for is scored as well as the text.

Look-alike letters, invisible and tag characters, leetspeak, spaced letters, and payloads in
base64, hexadecimal, percent-escapes, escapes of JSON or rot13. A view is only made where a disguise
shows, the number and length of views are bounded, and each is put on record. What is forwarded is
never touched: views exist for the classifier alone.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

from guardrail.classifier.base import Classifier, Sample
from guardrail.types import Evidence, Scores

__all__ = [
    "BASE64",
    "COMMON",
    "HEX",
    "INVISIBLE",
    "LEET",
    "LEET_WORD",
    "MAX_GROWTH",
    "SPACED",
    "NormalisingClassifier",
    "View",
    "fold_word",
    "views",
]

MAX_VIEWS: Final = 4
"""Views of one part of a text: each costs about as much as the part itself."""
PART_CHARS: Final = 16_000
"""Text that is looked at for disguises at once; a longer one is looked at part by part."""
PART_OVERLAP_CHARS: Final = 400
MAX_PAYLOAD_CHARS: Final = 8_000
MAX_GROWTH: Final = 3
"""Longest plain form of a character, as of a letter in brackets. One of U+FDFA has 18, so that
some hundred of them would keep the model busy for seconds."""
AROUND_CHARS: Final = 160
"""Text on either side of a decoded payload that its view shows: it may say what to do with it."""


@dataclass(frozen=True, slots=True)
class View:
    """What a text stands for once a disguise is undone.

    Args:
        name: Which disguise.
        text: The text without it.
        start: First character of the disguised place.
        end: Character after the last.
    """

    name: str
    text: str
    start: int
    end: int


_LOOK_ALIKES: Final[dict[int, int]] = str.maketrans(
    # Cyrillic, Greek, Armenian and Latin letters that are drawn like plain Latin ones.
    "аеорсухіјѕԁӏһԛԝвмнктгпАВЕКМНОРСТХУІЈЅαβγεηικνορτυχωΑΒΕΖΗΙΚΜΝΟΡΤΥΧօսոցհɡıʟɪɴʀᴀᴇᴏᴛᴜᴋᴍ",
    "aeopcyxijsdlhqwbmhktrnABEKMHOPCTXYIJSabyenikvoptuxwABEZHIKMNOPTYXounghgilinraeotukm",
)
INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e01ef]"
)
_TAGS: Final = re.compile("[\U000e0020-\U000e007e]{4,}")
_WORD: Final = re.compile(r"\w+")
_LATIN: Final = re.compile("[A-Za-z]")


def fold_word(match: re.Match[str]) -> str:
    """Fold a word that mixes scripts, or one of look-alikes alone; others are left as they are."""
    word = match[0]
    if word.isascii():
        return word
    plain = word.translate(_LOOK_ALIKES)
    return plain if plain.isascii() or _LATIN.search(word) else word


def _folded(text: str) -> Iterator[View]:
    """Look-alike, full-width and mathematical letters, and characters that do not show."""
    if text.isascii():
        return
    bare = INVISIBLE.sub("", text)
    plain = _plain_forms(bare)
    if _LATIN.search(plain):  # beside Latin letters only: Cyrillic prose has such words too
        plain = _WORD.sub(fold_word, plain)
    # Ligatures, dots and spaces also have plain forms: only letters that gained one count.
    gained = len(_LATIN.findall(plain)) - len(_LATIN.findall(text))
    split = len(bare) < len(text) and _inside_words(text)
    if gained >= 3 or split:
        yield View("look-alikes", plain, 0, len(text))


def _plain_forms(text: str) -> str:
    """Return a text in plain letters (NFKC), at most `MAX_GROWTH` times as long."""
    plain = unicodedata.normalize("NFKC", text)
    if len(plain) <= MAX_GROWTH * len(text):
        return plain
    forms = ((letter, unicodedata.normalize("NFKC", letter)) for letter in text)
    return "".join(form if len(form) <= MAX_GROWTH else letter for letter, form in forms)


def _inside_words(text: str) -> bool:
    """Whether one stands between Latin letters; other scripts have good uses for them."""
    return any(
        _LATIN.fullmatch(text[max(m.start() - 1, 0) : m.start()])
        and _LATIN.fullmatch(text[m.end() : m.end() + 1])
        for m in INVISIBLE.finditer(text)
    )


def _tags(text: str) -> Iterator[View]:
    """Text written in tag characters, which no screen shows and models read."""
    for match in _TAGS.finditer(text):
        if text[match.start() - 1 : match.start()] != "\U0001f3f4":  # flags of regions
            shown = "".join(chr(ord(c) - 0xE0000) for c in match[0])
            yield View("tag characters", shown, match.start(), match.end())


_ESCAPE: Final = re.compile(r"\\u([0-9A-Fa-f]{4})")
_NEEDLESS: Final = re.compile(r"\\u00(?:20|2[DE]|3[0-9]|4[0-9A-F]|5[0-9A]|6[1-9A-F]|7[0-9A])", re.I)
"""Letters, digits, space, dot, dash and @, which no program that writes JSON escapes."""
MANY_ESCAPES: Final = 4


def _json_escapes(text: str) -> Iterator[View]:
    """Escapes of JSON, which the arguments of tools may be full of: needless ones, or many."""
    found = list(_ESCAPE.finditer(text))
    if not found or (len(found) < MANY_ESCAPES and not _NEEDLESS.search(text)):
        return
    plain = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)
    whole = plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # pairs are one
    yield View("JSON escapes", whole, found[0].start(), found[-1].end())


LEET: Final = str.maketrans("0134578@$!|", "oieastbasil")
LEET_WORD: Final = re.compile(r"[A-Za-z0-9@$!|]{3,40}")
_LEET_INSIDE: Final = re.compile(r"[A-Za-z][0134578@$!|]{1,3}[A-Za-z]")


def _leet(text: str) -> Iterator[View]:
    """Digits and signs in place of letters, in two words or more."""
    words = [m for m in LEET_WORD.finditer(text) if _LEET_INSIDE.search(m[0])]
    words = [m for m in words if sum(c.isdigit() for c in m[0]) * 2 <= len(m[0])]
    if len(words) < 2:
        return
    plain = LEET_WORD.sub(
        lambda m: m[0].translate(LEET) if not m[0].isdigit() and not m[0].isalpha() else m[0], text
    )
    yield View("leetspeak", plain, words[0].start(), words[-1].end())


SPACED: Final = re.compile(r"(?<!\w)(?:\w(?:[ \t]{1,3}|[.\-_*·])){4,400}\w(?!\w)")
_GAP: Final = re.compile(r"[ \t]{2,3}")


def _spaced(text: str) -> Iterator[View]:
    """Letters set apart by spaces, dots or dashes."""
    found = [m for m in SPACED.finditer(text) if sum(c.isalpha() for c in m[0]) >= 5]
    if not found:
        return

    def join(match: re.Match[str]) -> str:
        words = _GAP.split(match[0])
        return " ".join(re.sub(r"[ \t.\-_*·]", "", word) for word in words)

    yield View("spaced letters", SPACED.sub(join, text), found[0].start(), found[-1].end())


BASE64: Final = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,}={0,2}")
HEX: Final = re.compile(r"(?<![0-9A-Za-z])(?:(?:0x|\\x)?[0-9A-Fa-f]{2}[ ,]?){10,}(?![0-9A-Za-z])")
_PERCENT: Final = re.compile(r"(?:%[0-9A-Fa-f]{2}[A-Za-z0-9.]{0,8}){4,}")


def _speech(data: bytes) -> str | None:
    """Return bytes as text, if they look like something that someone wrote."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    good = sum(c.isalpha() or c in " .,!?'\n" for c in text)
    return text if len(text) >= 8 and good >= 0.85 * len(text) and " " in text.strip() else None


def _from_base64(payload: str) -> str | None:
    body = payload[:MAX_PAYLOAD_CHARS].rstrip("=").replace("-", "+").replace("_", "/")
    body = body[: len(body) // 4 * 4] if len(body) % 4 == 1 else body
    try:
        return _speech(base64.b64decode(body + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError):
        return None


def _from_hex(payload: str) -> str | None:
    digits = re.sub(r"0x|\\x|[ ,]", "", payload[:MAX_PAYLOAD_CHARS])
    try:
        return _speech(bytes.fromhex(digits[: len(digits) // 2 * 2]))
    except ValueError:
        return None


def _from_percent(payload: str) -> str | None:
    return _speech(unquote(payload[:MAX_PAYLOAD_CHARS], errors="replace").encode("utf-8"))


def _decoded(
    name: str, pattern: re.Pattern[str], decode: Callable[[str], str | None]
) -> Callable[[str], Iterator[View]]:
    def find(text: str) -> Iterator[View]:
        for match in pattern.finditer(text):
            shown = decode(match[0])
            if shown is not None:
                before = text[max(0, match.start() - AROUND_CHARS) : match.start()]
                after = text[match.end() : match.end() + AROUND_CHARS]
                yield View(name, f"{before} {shown} {after}", match.start(), match.end())

    return find


COMMON: Final = frozenset(
    """
    the and you that for are with this have from not but what all were when your can said
    there how make get use who will would about them then some her his into time has look
    more write see could people than first been call now find long down day did come made
    may give tell me to of in is it on as at be or by we an do if my so up no he a i
    """.split()  # noqa: SIM905
)
_ROT_PIECE: Final = re.compile(r"[^\n\":]{12,2000}")


def _rot13(text: str) -> Iterator[View]:
    """A line or quotation that only makes words when its letters are turned by thirteen."""
    for match in _ROT_PIECE.finditer(text):
        words = re.findall("[a-z]+", match[0].lower())
        if len(words) < 3:
            continue
        turned = codecs.decode(match[0], "rot13")
        after = sum(w in COMMON for w in re.findall("[a-z]+", turned.lower()))
        if after >= 2 and after >= 0.25 * len(words) and after > 2 * _common(words):
            yield View("rot13", turned, match.start(), match.end())


def _common(words: Sequence[str]) -> int:
    return sum(word in COMMON for word in words)


_DISGUISES: Final = MappingProxyType(
    {
        "tag characters": _tags,
        "JSON escapes": _json_escapes,
        "base64": _decoded("base64", BASE64, _from_base64),
        "hexadecimal": _decoded("hexadecimal", HEX, _from_hex),
        "percent-escapes": _decoded("percent-escapes", _PERCENT, _from_percent),
        "look-alikes": _folded,
        "leetspeak": _leet,
        "spaced letters": _spaced,
        "rot13": _rot13,
    }
)


def views(text: str) -> list[View]:
    """Undo the disguises of a text.

    Args:
        text: Any text; the time and the length of the views are linear in its own.

    Returns:
        At most `MAX_VIEWS` views for each `PART_CHARS` characters, none that equals its part;
        empty for an ordinary text.
    """
    step = PART_CHARS - PART_OVERLAP_CHARS
    found: list[View] = []
    for at in range(0, max(len(text) - PART_OVERLAP_CHARS, 1), step):
        part = _part_views(text[at : at + PART_CHARS])
        found += (replace(view, start=view.start + at, end=view.end + at) for view in part)
    return found


def _part_views(text: str) -> list[View]:
    found: list[View] = []
    seen = {text}
    for disguise in _DISGUISES.values():
        for view in disguise(text):
            if view.text not in seen and len(found) < MAX_VIEWS:
                seen.add(view.text)
                found.append(view)
            if len(found) == MAX_VIEWS:
                return found
    return found


class NormalisingClassifier:
    """Scores every text and its views; each category has the highest of them.

    Args:
        inner: What scores.
    """

    def __init__(self, inner: Classifier) -> None:
        self.inner = inner

    @property
    def model_id(self) -> str:
        """The inner classifier's identity."""
        return self.inner.model_id

    @property
    def categories(self) -> tuple[str, ...]:
        """The inner classifier's categories."""
        return self.inner.categories

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch and the views of its texts, all in one inner batch."""
        extra: list[tuple[int, View]] = [
            (number, view)
            for number, sample in enumerate(samples)
            for view in views(sample.context + sample.text)
        ]
        shown = [replace(samples[n], text=view.text, context="", place=None) for n, view in extra]
        scores = self.inner.score([*samples, *shown])
        merged = list(scores[: len(samples)])
        for (number, view), found in zip(extra, scores[len(samples) :], strict=True):
            merged[number] = _merge(merged[number], found, view, len(samples[number].context))
        return merged


def _merge(plain: Scores, found: Scores, view: View, before: int) -> Scores:
    start, end = max(0, view.start - before), max(0, view.end - before)
    here = [replace(e, start=start, end=end) for e in found.evidence]
    categories = {
        key: max(value, found.categories.get(key, 0.0)) for key, value in plain.categories.items()
    }
    seen = Evidence("", "view", view.name, start, end)
    evidence = tuple(dict.fromkeys((*plain.evidence, seen, *here)))
    coverage = plain.coverage
    if found.coverage.truncated:  # nobody read all that the text stands for
        read = min(coverage.scanned_chars, coverage.total_chars - 1)
        coverage = replace(coverage, scanned_chars=read)
    return replace(plain, categories=categories, coverage=coverage, evidence=evidence)
