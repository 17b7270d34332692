"""Cuts a long text into pieces that are scored one by one, and joins their scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from guardrail.classifier.base import Sample
from guardrail.types import Coverage, Scores

__all__ = ["PIECE_CHARS", "merge", "pieces"]

PIECE_CHARS: Final = 4_000
"""Longest text in one job: about 1,000 tokens, a quarter of a second on one core."""
PIECE_OVERLAP_CHARS: Final = 200
"""Shared by neighbouring pieces, so that what lies across a cut is seen whole."""


def pieces(sample: Sample) -> list[Sample]:
    """Cut a long text into overlapping pieces, each on its own; a short one stays as it is."""
    text = sample.text
    if len(text) <= PIECE_CHARS:
        return [sample]
    stride = PIECE_CHARS - PIECE_OVERLAP_CHARS
    starts = range(0, len(text) - PIECE_OVERLAP_CHARS, stride)
    return [
        replace(
            sample,
            text=text[start : start + PIECE_CHARS],
            context=sample.context if start == 0 else "",
            place=None,
        )
        for start in starts
    ]


def merge(parts: Sequence[Scores], total_chars: int) -> Scores:
    """Join the scores of the pieces of one text: the highest of each category."""
    if len(parts) == 1:
        return parts[0]
    stride = PIECE_CHARS - PIECE_OVERLAP_CHARS
    evidence = (
        replace(e, start=e.start + n * stride, end=e.end + n * stride)
        for n, part in enumerate(parts)
        for e in part.evidence
    )
    keys = parts[0].categories
    whole = all(not part.coverage.truncated for part in parts)
    return Scores(
        categories={key: _highest([part.categories[key] for part in parts]) for key in keys},
        model=max((part.model for part in parts), key=len),  # with the guards that were asked
        coverage=Coverage(
            scanned_chars=total_chars
            if whole
            else min(total_chars - 1, sum(p.coverage.scanned_chars for p in parts)),
            total_chars=total_chars,
            tokens=sum(p.coverage.tokens for p in parts),
            windows=sum(p.coverage.windows for p in parts),
        ),
        # A match in the overlap of two pieces is one match.
        evidence=tuple(dict.fromkeys(evidence)),
        escalations=tuple(asked for part in parts for asked in part.escalations),
    )


def _highest(probabilities: Sequence[float]) -> float:
    """Return the highest; a piece that has none makes it unknown, whatever `max` would say."""
    return math.nan if any(map(math.isnan, probabilities)) else max(probabilities)
