"""Reads the contrast corpus: violating texts and their allowed twins, and texts that wrap them.

A line may hold ``{slots}``; each reading fills them anew. Twins share a family, and a family is
wholly in training or wholly in development, by hash of its name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from guardrail.errors import DataError
from guardrail.taxonomy import KEYS
from guardrail.train.rows import INDEX, OUTPUTS, Example, near
from guardrail.types import UNSAFE

__all__ = [
    "BENIGN",
    "CORPUS",
    "TRAIN_ONLY",
    "Line",
    "Wrapper",
    "corpus_example",
    "expansions",
    "fill",
    "is_dev",
    "read_corpus",
    "read_wrappers",
    "wrap",
]

CORPUS = Path(__file__).parent / "corpus"
BENIGN = "benign"
WRAPPERS = "wrappers"
DEV_SHARE = 0.12
TRAIN_ONLY = "train:"
"""Families whose names begin so are never held out: what is written because of what held-out
families showed must not change the set that measures it."""

_SLOT = re.compile(r"\{(\w+)\}")
_FIELDS = frozenset(
    ["family", "label", "role", "text", "prompt", "also", "slots", "lang", "wrapper"]
)
_ROLES = frozenset(("user", "assistant", "text"))

# The writers name every key that a violating text falls under, so that the others are negative:
# surely where they are far, less so where one may pass for the other.
NEAR_WEIGHT = 0.25

# Where a near key must not be mistaken all the same: what is said of adults is said of adults.
# Any key that is not here is apart from child exploitation.
_APART: dict[str, tuple[str, ...]] = {
    "sexual_content": ("child_exploitation", "sex_crimes"),
    "child_exploitation": (),
    "sex_crimes": (),
}

# What the overall output should say of a text that violates a key: (target, weight).
_OVERALL = {"profanity_toxicity": (1.0, 0.5), "prompt_injection": (0, 0), "jailbreak": (0, 0)}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a corpus file.

    Args:
        key: The category whose file it stands in, or ``benign``.
        family: Name shared by twins.
        violates: Whether the text violates the key.
        role: ``user``, ``assistant`` or ``text``.
        text: The text; may hold ``{slots}``.
        prompt: The user turn before an answer, or None.
        also: Other keys that it violates.
        slots: Fillings by slot name.
    """

    key: str
    family: str
    violates: bool
    role: str
    text: str
    prompt: str | None = None
    also: tuple[str, ...] = ()
    slots: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def dev(self) -> bool:
        """Whether its family is held out; see `TRAIN_ONLY`."""
        return not self.family.startswith(TRAIN_ONLY) and is_dev(f"{self.key}/{self.family}")


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A text around another one, which stands in for ``{core}``.

    Args:
        family: Name.
        adversarial: Whether it exists to get a forbidden request past a model.
        text: The text; holds ``{core}``, and may hold ``{slots}``.
        slots: Fillings by slot name.
    """

    family: str
    adversarial: bool
    text: str
    slots: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def dev(self) -> bool:
        """Whether it is held out; see `TRAIN_ONLY`."""
        return not self.family.startswith(TRAIN_ONLY) and is_dev(f"{WRAPPERS}/{self.family}")


def is_dev(family: str) -> bool:
    """Return whether a family is held out, by the first eight hex digits of its SHA-256."""
    digest = hashlib.sha256(family.encode()).hexdigest()[:8]
    return int(digest, 16) / 0xFFFFFFFF < DEV_SHARE


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                raw = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number}: not JSON: {error}") from error
            unknown = set(raw) - _FIELDS
            if unknown:
                raise DataError(f"{path}:{number}: unknown fields {sorted(unknown)}; remove them")
            yield number, raw


def _line(key: str, place: str, raw: dict[str, Any]) -> Line:
    label, role = raw.get("label"), raw.get("role")
    if label not in ("violates", "allowed"):
        raise DataError(f"{place}: label is {label!r}; write violates or allowed")
    if role not in _ROLES:
        raise DataError(f"{place}: role is {role!r}; write user, assistant or text")
    also = tuple(raw.get("also") or ())
    if wrong := [k for k in also if k not in KEYS]:
        raise DataError(f"{place}: also names unknown keys {wrong}; see guardrail/taxonomy.py")
    slots = {name: tuple(fillings) for name, fillings in (raw.get("slots") or {}).items()}
    used = set(_SLOT.findall(raw["text"] + (raw.get("prompt") or "")))
    if used != set(slots):
        raise DataError(f"{place}: text uses slots {sorted(used)}, slots has {sorted(slots)}")
    prompt = raw.get("prompt")
    return Line(key, raw["family"], label == "violates", role, raw["text"], prompt, also, slots)


def read_corpus(folder: Path = CORPUS) -> list[Line]:
    """Read every category file and the benign files of a corpus folder.

    Raises:
        DataError: A line is not one; names file, line and fix.
    """
    lines: list[Line] = []
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem == WRAPPERS:
            continue
        key = BENIGN if path.stem.startswith(BENIGN) else path.stem
        if key != BENIGN and key not in KEYS:
            raise DataError(f"{path}: not named after a category; see guardrail/taxonomy.py")
        lines.extend(_line(key, f"{path}:{n}", raw) for n, raw in _objects(path))
    return lines


def read_wrappers(folder: Path = CORPUS) -> list[Wrapper]:
    """Read the wrappers of a corpus folder; none where it has no such file.

    Raises:
        DataError: A line has no ``{core}``; names file, line and fix.
    """
    path = folder / f"{WRAPPERS}.jsonl"
    if not path.is_file():
        return []
    wrappers = []
    for number, raw in _objects(path):
        if "{core}" not in raw["text"]:
            raise DataError(f"{path}:{number}: text has no {{core}}; write it where the core goes")
        adversarial = raw.get("wrapper") == "adversarial"
        slots = {name: tuple(fillings) for name, fillings in (raw.get("slots") or {}).items()}
        wrappers.append(Wrapper(raw["family"], adversarial, raw["text"], slots))
    return wrappers


def _filled(template: str, filling: dict[str, str]) -> str:
    return _SLOT.sub(lambda m: filling.get(m.group(1), m.group(0)), template)


def fill(line: Line, rng: Random) -> tuple[str, str | None]:
    """Fill a line's slots at random.

    Returns:
        Text and prompt.
    """
    filling = {name: rng.choice(options) for name, options in line.slots.items()}
    prompt = None if line.prompt is None else _filled(line.prompt, filling)
    return _filled(line.text, filling), prompt


def wrap(wrapper: Wrapper, core: str, rng: Random) -> str:
    """Put a text into a wrapper, whose slots are filled at random."""
    filling = {name: rng.choice(options) for name, options in wrapper.slots.items()}
    return _filled(wrapper.text, {**filling, "core": core})


def expansions(line: Line, limit: int) -> Iterator[tuple[str, str | None]]:
    """Yield up to ``limit`` fillings of a line's slots, spread over all of them."""
    names = sorted(line.slots)
    every = list(islice(product(*(line.slots[name] for name in names)), 4096))
    step = max(1, len(every) // limit)
    for choice in every[::step][:limit]:
        filling = dict(zip(names, choice, strict=True))
        prompt = None if line.prompt is None else _filled(line.prompt, filling)
        yield _filled(line.text, filling), prompt


def corpus_example(line: Line, text: str, prompt: str | None) -> Example:
    """Turn a filled line into masked targets.

    Args:
        line: The line.
        text: Its text with the slots filled.
        prompt: Its prompt likewise.

    Returns:
        An example; an allowed text is negative for every output.
    """
    targets = np.zeros(len(OUTPUTS), dtype=np.float32)
    weights = np.ones(len(OUTPUTS), dtype=np.float32)
    if line.violates:
        for key in near(line.key, *line.also):
            weights[INDEX[key]] = NEAR_WEIGHT
        for key in _APART.get(line.key, ("child_exploitation",)):
            weights[INDEX[key]] = 1.0
        for key in (line.key, *line.also):
            targets[INDEX[key]] = weights[INDEX[key]] = 1.0
        overall = _OVERALL.get(line.key, (1.0, 1.0))
        if any(k not in _OVERALL for k in line.also):
            overall = (1.0, 1.0)
        targets[INDEX[UNSAFE]], weights[INDEX[UNSAFE]] = overall
    elif line.key == "profanity_toxicity":
        # Mild swearing may be allowed there; what the line says of its own key is certain.
        weights[1:] = 0.7
        weights[INDEX[line.key]] = 1.0
    return Example(text, line.role, prompt, targets, weights, f"corpus.{line.key}/{line.role}")
