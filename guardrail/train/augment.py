"""Surface changes that keep a text's meaning: what people and evaders do to spelling."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

__all__ = ["AUGMENTATIONS", "augment"]

_LEET = {"a": "4@", "e": "3", "i": "1!", "o": "0", "s": "5$", "t": "7", "l": "1", "b": "8"}
# Cyrillic and Greek letters drawn like Latin ones (Unicode TR39 confusables).
_ALIKE = {"a": "а", "c": "с", "e": "е", "i": "і", "o": "о", "p": "р", "x": "х", "y": "у"}
_HIDDEN = "​‌‍⁠­"


def _lower(text: str, rng: Random) -> str:
    return text.lower().rstrip(".!?") if rng.random() < 0.5 else text.rstrip(".!?")


def _upper(text: str, rng: Random) -> str:
    if rng.random() < 0.4:
        return text.upper()
    return "".join(c.upper() if rng.random() < 0.5 else c.lower() for c in text)


def _typos(text: str, rng: Random) -> str:
    letters = list(text)
    for _ in range(max(1, len(text) // 60)):
        at = rng.randrange(max(1, len(letters) - 1))
        kind = rng.randrange(3)
        if kind == 0 and at + 1 < len(letters):
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        elif kind == 1 and len(letters) > 4:
            del letters[at]
        else:
            letters.insert(at, letters[at] if letters else "")
    return "".join(letters)


def _swapped(text: str, table: dict[str, str], share: float, rng: Random) -> str:
    def one(char: str) -> str:
        options = table.get(char.lower())
        return rng.choice(options) if options and rng.random() < share else char

    return "".join(one(char) for char in text)


def _leet(text: str, rng: Random) -> str:
    return _swapped(text, _LEET, 0.3, rng)


def _alike(text: str, rng: Random) -> str:
    return _swapped(text, _ALIKE, 0.25, rng)


def _hidden(text: str, rng: Random) -> str:
    return "".join(c + rng.choice(_HIDDEN) if rng.random() < 0.08 else c for c in text)


_OPENINGS = (
    "hi, ", "hey, ", "hello! ", "Quick question: ", "please ", "pls ", "ok so ", "um, ",
    "Be honest. ", "Question for you: ", "Sorry if this is odd, but ", "lol ", "one more: ",
    "Good morning. ", "I was wondering: ", "serious question - ", "so ", "well, ",
)  # fmt: skip
_ENDINGS = (
    " thanks!", " thx", " please", " asap", " Thank you in advance.", " :)", " lol", " plz",
    " Keep it short.", " In detail, please.", " Step by step.", " any ideas?", "...", "!!",
)  # fmt: skip


def _chatty(text: str, rng: Random) -> str:
    opening = rng.choice(_OPENINGS) if rng.random() < 0.6 else ""
    ending = rng.choice(_ENDINGS) if rng.random() < 0.6 else ""
    body = text[:1].lower() + text[1:] if opening and rng.random() < 0.5 else text
    return opening + body + ending


def _spaced(text: str, rng: Random) -> str:
    words = text.split(" ")
    for _ in range(max(1, len(words) // 8)):
        at = rng.randrange(len(words))
        if 3 < len(words[at]) < 14:
            words[at] = rng.choice(" -._*").join(words[at])
    return " ".join(words)


AUGMENTATIONS: dict[str, tuple[float, Callable[[str, Random], str]]] = {
    "bare": (5.0, _lower),
    "case": (1.0, _upper),
    "typos": (3.0, _typos),
    "leet": (1.2, _leet),
    "confusables": (0.6, _alike),
    "zero_width": (0.6, _hidden),
    "spacing": (0.8, _spaced),
    "chatty": (4.0, _chatty),
}
"""Name to (relative frequency, function)."""

_NAMES = tuple(AUGMENTATIONS)
_FREQUENCIES = tuple(AUGMENTATIONS[name][0] for name in _NAMES)


def augment(text: str, rng: Random) -> str:
    """Apply one augmentation, drawn by its frequency.

    Args:
        text: A text that is not empty.
        rng: Source of randomness.

    Returns:
        The changed text; the text itself where nothing would be left.
    """
    (name,) = rng.choices(_NAMES, _FREQUENCIES)
    return AUGMENTATIONS[name][1](text, rng) or text
