"""A model without log-probabilities, through LiteLLM: asked several times, its votes counted."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from guardrail.classifier.base import Sample
from guardrail.classifier.endpoint import EndpointError
from guardrail.classifier.questions import MAX_CHARS, Exchange, Rubric, ask
from guardrail.classifier.remote import plain_text
from guardrail.errors import SettingsError
from guardrail.types import UNSAFE, Coverage, Scores

__all__ = ["VoteJudge"]

VOTE_TOKENS: Final = 8
_FIRST: Final = re.compile(r"\W*+(yes|no)\b", re.IGNORECASE)
"""A whole word: "Not allowed" and "Nothing good" are no No."""
AT_ONCE: Final = 8
"""Votes of one text that are asked for at the same time."""


class VoteJudge:
    """Asks a model k times at temperature 1 and takes the share of Yes.

    ``(yes + 0.5) / (votes + 1)``, the mean of Jeffreys' posterior, so that five times No is not
    certainty. It is a coarse number: calibrate it before it decides.

    Args:
        model: LiteLLM's name of the model, such as ``anthropic/claude-…``.
        rubrics: What violates each category, in words.
        votes: How often it is asked.
        key: API key, or None for the provider's own variable.
        url: Base URL in place of the provider's, or None.
        timeout_s: Longest time for one vote.
        retries: Most further attempts of one vote; LiteLLM makes them.

    Raises:
        SettingsError: LiteLLM is not installed.
    """

    batch = 1
    by_category = True
    max_chars = MAX_CHARS

    def __init__(
        self,
        model: str,
        rubrics: Mapping[str, str],
        *,
        votes: int = 5,
        key: str | None = None,
        url: str | None = None,
        timeout_s: float = 2.0,
        retries: int = 1,
    ) -> None:
        # Without this, importing LiteLLM fetches a price list from the network.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        try:
            litellm: Any = importlib.import_module("litellm")
        except ImportError as error:
            raise SettingsError(
                "a guard of kind litellm needs LiteLLM: pip install 'guardrail[litellm]'"
            ) from error
        self._litellm = litellm
        litellm.suppress_debug_info = True  # it prints advice to standard output otherwise
        self._model = model
        self._rubrics = {key: Rubric(key, text) for key, text in rubrics.items()}
        self._votes = votes
        self._call = {"api_key": key, "api_base": url, "timeout": timeout_s, "num_retries": retries}
        self._pool = ThreadPoolExecutor(min(votes, AT_ONCE), thread_name_prefix="guardrail-votes")

    @property
    def model_id(self) -> str:
        """LiteLLM's name of the model and the number of votes."""
        return f"{self._model}:votes{self._votes}"

    @property
    def categories(self) -> tuple[str, ...]:
        """Those with a rubric."""
        return tuple(key for key in self._rubrics if key != UNSAFE)

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch for all categories that have a rubric."""
        return self.ask(samples, tuple(self._rubrics))

    def ask(self, samples: Sequence[Sample], categories: Sequence[str]) -> list[Scores]:
        """Score a batch for some categories."""
        return [self._one(sample, categories) for sample in samples]

    def _one(self, sample: Sample, categories: Sequence[str]) -> Scores:
        values = {key: self._share(sample, self._rubrics[key]) for key in categories}
        size = len(sample.text)
        return Scores(values, self.model_id, Coverage(size, size))

    def _share(self, sample: Sample, rubric: Rubric) -> float:
        exchange = Exchange(sample.context + sample.text, sample.role, sample.prompt)
        messages = [{"role": "user", "content": plain_text(ask(exchange, rubric).text)}]
        asked = [self._pool.submit(self._vote, messages) for _ in range(self._votes)]
        votes = [vote for one in asked if (vote := one.result()) is not None]
        if 2 * len(votes) < self._votes:
            raise EndpointError(
                f"{self._model}: fewer than half of its answers begin with Yes or No",
                reason="garbage",
            )
        return (sum(votes) + 0.5) / (len(votes) + 1)

    def _vote(self, messages: list[dict[str, str]]) -> bool | None:
        try:
            answer = self._litellm.completion(
                model=self._model,
                messages=messages,
                temperature=1.0,
                max_tokens=VOTE_TOKENS,
                **{name: value for name, value in self._call.items() if value is not None},
            )
            words = answer.choices[0].message.content
        except Exception as error:
            raise self._failed(error) from error
        first = _FIRST.match(words) if isinstance(words, str) else None
        return None if first is None else first[1].lower() == "yes"

    def _failed(self, error: Exception) -> EndpointError:
        """Name a failure; the provider's text may hold the prompt or the key, so it is left out."""
        name = type(error).__name__
        reason = _REASONS.get(name, "failure")
        return EndpointError(f"{self._model}: LiteLLM reports {name}", reason=reason)


_REASONS: Final[Mapping[str, str]] = {
    "APIConnectionError": "unavailable",
    "InternalServerError": "unavailable",
    "RateLimitError": "rate_limited",
    "ServiceUnavailableError": "unavailable",
    "Timeout": "timeout",
}
