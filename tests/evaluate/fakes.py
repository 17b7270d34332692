"""A classifier for tests: it says what the text says."""

from __future__ import annotations

from collections.abc import Sequence

from guardrail.classifier.base import Sample
from guardrail.types import UNSAFE, Coverage, Scores


class Telling:
    """Scores ``0.9 …`` as unsafe 0.9; text that is no number scores 0.

    Args:
        fail_after: Samples after which it raises, as a killed run would.
    """

    model_id = "telling@0"
    categories = ("hate", "privacy")

    def __init__(self, fail_after: int = 10**9) -> None:
        self.seen: list[Sample] = []
        self.fail_after = fail_after

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        self.seen += samples
        if len(self.seen) > self.fail_after:
            raise RuntimeError("killed")
        return [self._one(sample.text) for sample in samples]

    def _one(self, text: str) -> Scores:
        try:
            value = float(text.split()[0])
        except (ValueError, IndexError):
            value = 0.0
        values = {UNSAFE: value, "hate": value / 2, "privacy": 0.0}
        return Scores(values, self.model_id, Coverage(len(text), len(text), 3, 1))
