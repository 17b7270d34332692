"""One classifier for one policy: the model, the policy's own heads, its rules, its disguises.

text ──> views of it ──> encoder ──┬─> taxonomy ──┐
             │                     └─> own heads ─┼──> the highest of each category
             └──> patterns, words, detectors ─────┘
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.base import Classifier, Sample
from guardrail.classifier.heads import HeadStore, heads_for
from guardrail.classifier.normalise import NormalisingClassifier
from guardrail.classifier.rubrics import Embedder, Head
from guardrail.classifier.rules import RuleClassifier
from guardrail.errors import PolicyError
from guardrail.policy import Policy
from guardrail.types import Scores

__all__ = ["HeadClassifier", "UnionClassifier", "for_policy"]


@runtime_checkable
class _Encoder(Classifier, Embedder, Protocol):
    """A classifier whose embeddings can carry heads."""

    def score_and_embed(
        self, samples: Sequence[Sample]
    ) -> tuple[list[Scores], list[NDArray[np.float32]]]:
        """Return scores and, for each sample, float32 (windows, layers, hidden)."""
        ...


class HeadClassifier:
    """Adds a policy's own categories to an encoder's, in the same forward pass.

    Args:
        encoder: The encoder.
        heads: Heads that were fitted on it.
    """

    def __init__(self, encoder: _Encoder, heads: Sequence[Head]) -> None:
        self._encoder = encoder
        self._heads = tuple(heads)
        digest = hashlib.sha256("".join(h.inputs for h in heads).encode()).hexdigest()
        self._model_id = f"{encoder.model_id}+heads@{digest[:12]}"

    @property
    def model_id(self) -> str:
        """The encoder's identity and a hash of the heads."""
        return self._model_id

    @property
    def categories(self) -> tuple[str, ...]:
        """The encoder's categories and the policy's own."""
        return (*self._encoder.categories, *(head.category for head in self._heads))

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch; of a long text each category has the highest of its windows."""
        scores, states = self._encoder.score_and_embed(samples)
        return [self._with_heads(s, rows) for s, rows in zip(scores, states, strict=True)]

    def _with_heads(self, scores: Scores, rows: NDArray[np.float32]) -> Scores:
        own = {
            head.category: float(head.probability(rows).max()) if len(rows) else 0.0
            for head in self._heads
        }
        return replace(scores, categories={**scores.categories, **own}, model=self._model_id)


class UnionClassifier:
    """Joins a model and rules: the highest probability of each category.

    Args:
        model: What reads the meaning.
        rules: What reads the shape.
    """

    def __init__(self, model: Classifier, rules: RuleClassifier) -> None:
        self._model = model
        self._rules = rules

    @property
    def model_id(self) -> str:
        """Both identities."""
        return f"{self._model.model_id}+{self._rules.model_id}"

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories of either."""
        return tuple(dict.fromkeys((*self._model.categories, *self._rules.categories)))

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch by both."""
        pairs = zip(self._model.score(samples), self._rules.score(samples), strict=True)
        return [self._join(model, rules) for model, rules in pairs]

    def _join(self, model: Scores, rules: Scores) -> Scores:
        joined = dict(model.categories)
        for key, value in rules.categories.items():
            joined[key] = max(joined.get(key, 0.0), value)
        evidence = (*model.evidence, *rules.evidence)
        return replace(model, categories=joined, model=self.model_id, evidence=evidence)


def for_policy(policy: Policy, model: Classifier, *, store: HeadStore | None = None) -> Classifier:
    """Return the classifier that scores all that a policy asks for.

    Heads that are not kept yet, or whose inputs changed, are fitted: seconds, not minutes.

    Args:
        policy: The policy.
        model: The embedded classifier, or another for a policy without rubrics.
        store: Where heads are kept; None for the place next to the policy.

    Returns:
        ``model`` itself where the policy needs nothing else.

    Raises:
        PolicyError: The policy has rubrics and the model has no embeddings to fit them on.
    """
    composed = model
    if any(rule.rubric for rule in policy.rules):
        if not isinstance(model, _Encoder):
            key = next(rule.category for rule in policy.rules if rule.rubric)
            raise PolicyError(
                f"'{key}' has a rubric, and {model.model_id} has no embeddings to fit it on; "
                "use the embedded classifier",
                file=policy.file,
            )
        composed = HeadClassifier(model, heads_for(policy, model, store))
    if any(rule.matchers for rule in policy.rules):
        composed = UnionClassifier(composed, RuleClassifier(policy))
    return NormalisingClassifier(composed) if policy.normalise else composed
