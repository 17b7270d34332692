"""Which words of a text speak for a category: how far its probability falls without them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from guardrail.classifier.base import Classifier, Sample

__all__ = ["MAX_PIECES", "attribution", "pieces"]

MAX_PIECES: Final = 96
"""Passes over the text; of a longer one neighbouring words are left out together."""


def pieces(text: str, most: int = MAX_PIECES) -> list[tuple[int, int]]:
    """Cut a text into words, or runs of words, each with the space after it."""
    starts = [m.start() for m in re.finditer(r"\S+", text)]
    step = -(-len(starts) // most) if starts else 1
    kept = starts[::step]
    return list(zip(kept, [*kept[1:], len(text)], strict=True)) if kept else []


def attribution(
    classifier: Classifier, sample: Sample, whole: float, key: str, cuts: Sequence[tuple[int, int]]
) -> list[float]:
    """Return how far a probability falls when each piece is left out."""
    without = [replace(sample, text=sample.text[:a] + sample.text[b:]) for a, b in cuts]
    return [whole - (s.get(key) or 0.0) for s in classifier.score(without)]
