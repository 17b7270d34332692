"""Rules as a classifier: patterns, word lists and detectors give a category the probability 1.

They say what a text looks like, not what it means; a policy uses them beside the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from guardrail.classifier.base import Sample
from guardrail.classifier.detectors import detect
from guardrail.policy import Policy, Rule
from guardrail.policy.patterns import compile_pattern, compile_words
from guardrail.types import Coverage, Evidence, Scores

__all__ = ["RuleClassifier", "matches"]

MAX_MATCHES: Final = 16
"""Places that one pattern or word list reports of one text."""


def matches(rule: Rule, text: str) -> Iterator[Evidence]:
    """Find what a rule's patterns, words and detectors match.

    Args:
        rule: The rule.
        text: Any text; the time is linear in its length.

    Yields:
        A piece of evidence for each place.
    """
    for number, pattern in enumerate(rule.matchers.patterns, 1):
        for start, end in compile_pattern(pattern).find(text, MAX_MATCHES):
            yield Evidence(rule.category, "pattern", f"pattern {number}", start, end)
    if rule.matchers.words:
        for start, end in compile_words(rule.matchers.words).find(text, MAX_MATCHES):
            yield Evidence(rule.category, "word", "word list", start, end)
    for detector in rule.matchers.detectors:
        for start, end in detect(detector, text):
            yield Evidence(rule.category, "detector", detector.value, start, end)


class RuleClassifier:
    """Scores texts by the patterns, words and detectors of a policy's rules.

    Args:
        policy: The policy; rules without any of them are not looked at.
    """

    def __init__(self, policy: Policy) -> None:
        self._rules = tuple(rule for rule in policy.rules if rule.matchers)
        self._model_id = f"rules@{policy.content_hash[:12]}"

    @property
    def model_id(self) -> str:
        """``rules`` and the policy's hash."""
        return self._model_id

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories that have patterns, words or detectors."""
        return tuple(rule.category for rule in self._rules)

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch: 1 for a category with a match in it, else 0."""
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> Scores:
        # What begins in text that was judged before may end in this one.
        before, text = len(sample.context), sample.context + sample.text
        values: dict[str, float] = {}
        evidence: list[Evidence] = []
        for rule in self._rules:
            found = [
                Evidence(e.category, e.kind, e.name, max(0, e.start - before), e.end - before)
                for e in matches(rule, text)
                if e.end > before
            ]
            values[rule.category] = 1.0 if found else 0.0
            evidence += found
        size = len(sample.text)
        return Scores(values, self._model_id, Coverage(size, size), tuple(evidence))
