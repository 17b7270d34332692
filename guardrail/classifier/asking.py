"""`RubricJudge`: any model that answers questions, asked about some rubrics only, as a guard.

Unlike `guardrail.classifier.judge.PromptableJudge` it takes nothing off for an empty exchange: a
large model is so sure of "no" there that the difference would make every text look bad until a
calibration is fitted, and a fitted one has that offset anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from guardrail.classifier.answers import NO, YES, AnswerModel
from guardrail.classifier.base import Sample
from guardrail.classifier.questions import MAX_CHARS, RUBRICS, Exchange, Rubric, ask
from guardrail.policy import Policy
from guardrail.taxonomy import CATEGORIES
from guardrail.types import UNSAFE, Coverage, Scores

__all__ = ["RubricJudge", "rubrics_of"]

_KNOWN: Final[Mapping[str, str]] = {
    UNSAFE: RUBRICS["safety"].text,
    **{key: category.definition for key, category in CATEGORIES.items()},
}


def rubrics_of(policy: Policy) -> dict[str, str]:
    """Return what each category of a policy's rules means, in words.

    The author's own rubric, or the taxonomy's definition. A category of shapes alone (patterns,
    words) has none.
    """
    own = {rule.category: rule.rubric for rule in policy.rules if rule.rubric}
    keys = (rule.category for rule in policy.rules)
    return {key: text for key in keys if (text := own.get(key, _KNOWN.get(key)))}


class RubricJudge:
    """Asks a model whether a text matches a rubric, and reads yes and no.

    Args:
        model: What answers.
        rubrics: What violates each category, in words.
        batch: Most texts in one call of `ask`.
        by_category: Whether each category costs a call of its own.
    """

    max_chars = MAX_CHARS

    def __init__(
        self,
        model: AnswerModel,
        rubrics: Mapping[str, str],
        *,
        batch: int = 1,
        by_category: bool = True,
    ) -> None:
        self._model = model
        self._rubrics = {key: Rubric(key, text) for key, text in rubrics.items()}
        self.batch = batch
        self.by_category = by_category

    @property
    def model_id(self) -> str:
        """Identity of the model behind it."""
        return self._model.model_id

    @property
    def categories(self) -> tuple[str, ...]:
        """Those with a rubric."""
        return tuple(key for key in self._rubrics if key != UNSAFE)

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch by all rubrics."""
        return self.ask(samples, tuple(self._rubrics))

    def ask(self, samples: Sequence[Sample], categories: Sequence[str]) -> list[Scores]:
        """Score a batch for some categories: ``P(yes) / (P(yes) + P(no))``."""
        rubrics = [self._rubrics[key] for key in categories]
        exchanges = [Exchange(s.context + s.text, s.role, s.prompt) for s in samples]
        prompts = [ask(exchange, rubric) for exchange in exchanges for rubric in rubrics]
        found = self._model.answers(prompts, [YES, NO])
        gap = np.clip(found.logprobs[:, 1] - found.logprobs[:, 0], -60.0, 60.0)
        chances = (1.0 / (1.0 + np.exp(gap))).reshape(len(samples), len(rubrics))
        dropped = found.dropped.reshape(len(samples), len(rubrics)).max(axis=1, initial=0)
        tokens = found.tokens.reshape(len(samples), len(rubrics)).sum(axis=1)
        return [
            Scores(
                dict(zip(categories, map(float, row), strict=True)),
                self.model_id,
                # A token is a character at least.
                Coverage(max(0, len(s.text) - int(lost)), len(s.text), int(read), 1),
            )
            for s, row, lost, read in zip(samples, chances, dropped, tokens, strict=True)
        ]
