"""Guards behind an address: language models by log-probability or by votes, and moderation APIs.

Each is a `Judge`. What goes over the wire is in `guardrail.classifier.endpoint`; the words of the
question are in `guardrail.classifier.prompts`. Numbers are as the guard gives them: calibration,
cache and breaker are `guardrail.classifier.cascade`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from guardrail.classifier.base import Sample
from guardrail.classifier.endpoint import Endpoint, EndpointError
from guardrail.classifier.prompts import (
    first_answer,
    llama_guard_messages,
    plain_prompt,
    rubric_messages,
)
from guardrail.policy import GuardApi, GuardTemplate
from guardrail.taxonomy import CATEGORIES, OPENAI_MODERATION, Family, by_id
from guardrail.types import UNSAFE, Coverage, Scores

__all__ = ["LogprobJudge", "ModerationsJudge"]

TOP: Final = 20
"""Alternatives that are asked for at each position: the most that OpenAI's API allows."""
YES: Final = ("yes",)
NO: Final = ("no",)
VERDICT_TOKENS: Final = 24
"""Room for ``unsafe`` and a line of codes; the probability comes from the first word."""
NEGLIGIBLE: Final = 0.01
"""Share of P(unsafe) of a category that the guard did not list."""


class LogprobJudge:
    """An instruct model, or a guard model with its own template, read by its first word.

    Args:
        endpoint: An OpenAI-compatible API that returns log-probabilities.
        model: The model's name there.
        rubrics: What violates each category, in words.
        template: Who asks: we, by rubric, or the model's own template.
        api: Which endpoint is called.
    """

    batch = 1

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        rubrics: Mapping[str, str],
        *,
        template: GuardTemplate = GuardTemplate.RUBRIC,
        api: GuardApi = GuardApi.CHAT,
    ) -> None:
        self._endpoint = endpoint
        self._model = model
        self._rubrics = dict(rubrics)
        self._template = template
        self._api = api

    @property
    def model_id(self) -> str:
        """The model's name at its endpoint; who serves it vouches for its content."""
        return f"{self._model}:{self._template.value}"

    @property
    def categories(self) -> tuple[str, ...]:
        """Those with a rubric, or those that the guard's template names."""
        if self._template is GuardTemplate.LLAMA_GUARD:
            return tuple(k for k, c in CATEGORIES.items() if c.family is Family.HAZARD)
        return tuple(key for key in self._rubrics if key != UNSAFE)

    @property
    def by_category(self) -> bool:
        """Whether each category costs a call of its own."""
        return self._template is GuardTemplate.RUBRIC

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch for all categories and the overall one."""
        keys = dict.fromkeys([*self._rubrics, *self.categories, UNSAFE])
        if self._template is GuardTemplate.RUBRIC:
            keys = dict.fromkeys(self._rubrics)
        return self.ask(samples, tuple(keys))

    def ask(self, samples: Sequence[Sample], categories: Sequence[str]) -> list[Scores]:
        """Score a batch for some categories, one call for each text and rubric."""
        return [self._one(sample, categories) for sample in samples]

    def _one(self, sample: Sample, categories: Sequence[str]) -> Scores:
        if self._template is GuardTemplate.LLAMA_GUARD:
            values = self._verdict(sample, categories)
        else:
            values = {key: self._rubric(sample, self._rubrics[key]) for key in categories}
        size = len(sample.text)
        return Scores(values, self.model_id, Coverage(size, size))

    def _rubric(self, sample: Sample, rubric: str) -> float:
        body: dict[str, Any] = {"model": self._model, "max_tokens": 1, "temperature": 0}
        if self._api is GuardApi.CHAT:
            path = "/chat/completions"
            body |= {"messages": rubric_messages(sample, rubric)}
            body |= {"logprobs": True, "top_logprobs": TOP}
        else:
            path = "/completions"
            body |= {"prompt": plain_prompt(sample, rubric), "logprobs": TOP}
        choice = _choice(self._endpoint.post(path, body), self._endpoint)
        chance = first_answer(_tops(choice, self._endpoint), YES, NO)
        if chance is None:
            raise _garbage(self._endpoint, "neither Yes nor No is among the likely first words")
        return chance

    def _verdict(self, sample: Sample, categories: Sequence[str]) -> dict[str, float]:
        """Read ``safe`` or ``unsafe`` and the codes behind it, as Llama Guard writes them.

        Format: https://github.com/meta-llama/PurpleLlama (Llama Guard 3 model card): first word
        ``safe`` or ``unsafe``, then, on the next line, codes such as ``S1,S10``.
        """
        body = {
            "model": self._model,
            "messages": llama_guard_messages(sample),
            "max_tokens": VERDICT_TOKENS,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": TOP,
        }
        choice = _choice(self._endpoint.post("/chat/completions", body), self._endpoint)
        # Some vocabularies write "unsafe" as two tokens, the first of which is no word.
        chance = first_answer(_tops(choice, self._endpoint), ("unsafe", "uns", "un"), ("safe",))
        if chance is None:
            raise _garbage(self._endpoint, "neither safe nor unsafe is among the first words")
        listed = {found.key for code in _CODE.findall(_content(choice)) if (found := by_id(code))}
        return {
            key: chance if key == UNSAFE or key in listed else chance * NEGLIGIBLE
            for key in categories
        }


_CODE: Final = re.compile(r"\bS\d{1,2}\b")


class ModerationsJudge:
    """OpenAI's ``/v1/moderations``, or a server that answers like it, ours included.

    A name of our own in the answer (``category_scores``) is taken as it is; of OpenAI's names,
    the highest of those that stand for a category.

    Args:
        endpoint: The API.
        model: The model's name there; empty leaves the choice to it.
    """

    batch = 16

    def __init__(self, endpoint: Endpoint, model: str = "") -> None:
        self._endpoint = endpoint
        self._model = model

    by_category = False

    @property
    def model_id(self) -> str:
        """The model's name, or the kind of endpoint."""
        return self._model or "moderations"

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories that OpenAI's names stand for; a server may know more."""
        return tuple(dict.fromkeys(k for keys in OPENAI_MODERATION.values() for k in keys))

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch for all categories that OpenAI's names stand for."""
        return self.ask(samples, (UNSAFE, *self.categories))

    def ask(self, samples: Sequence[Sample], categories: Sequence[str]) -> list[Scores]:
        """Score a batch in one call."""
        if not samples:
            return []
        body: dict[str, Any] = {"input": [s.context + s.text for s in samples]}
        if self._model:
            body["model"] = self._model
        answer = self._endpoint.post("/moderations", body)
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list) or len(results) != len(samples):
            raise _garbage(self._endpoint, "the answer has not one result for each text")
        return [self._scores(s, r, categories) for s, r in zip(samples, results, strict=True)]

    def _scores(self, sample: Sample, result: object, categories: Sequence[str]) -> Scores:
        raw = result.get("category_scores") if isinstance(result, dict) else None
        if not isinstance(raw, dict) or not raw:
            raise _garbage(self._endpoint, "a result has no 'category_scores'")
        numbers = {name: _unit(value) for name, value in raw.items() if isinstance(name, str)}
        known = {name: value for name, value in numbers.items() if value is not None}
        values = {key: self._of(key, known) for key in categories}
        size = len(sample.text)
        return Scores(values, self.model_id, Coverage(size, size))

    def _of(self, key: str, known: Mapping[str, float]) -> float:
        if key == UNSAFE and known:
            return known.get(UNSAFE, max(known.values()))
        names = [name for name, keys in OPENAI_MODERATION.items() if key in keys]
        # Our key and OpenAI's name may be the same word ('hate'): then theirs is meant by both.
        found = [known[name] for name in (key, *names) if name in known]
        if key in known and key not in OPENAI_MODERATION:
            return known[key]
        if not found:
            raise _garbage(self._endpoint, f"no score stands for '{key}'; use another guard for it")
        return max(found)


def _choice(answer: Any, endpoint: Endpoint) -> Mapping[str, Any]:
    try:
        choice = answer["choices"][0]
    except (KeyError, IndexError, TypeError):
        choice = None
    if not isinstance(choice, dict):
        raise _garbage(endpoint, "the answer has no choice")
    return choice


def _content(choice: Mapping[str, Any]) -> str:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    return text[:1000] if isinstance(text, str) else ""


def _tops(choice: Mapping[str, Any], endpoint: Endpoint) -> list[dict[str, float]]:
    """Return the likeliest tokens of each position, in either of the two shapes in use.

    ``logprobs.content[].top_logprobs[]`` of chat completions, which llama.cpp gives for
    completions too, and ``logprobs.top_logprobs[]``, token to number, of OpenAI's completions.
    """
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        raise _garbage(
            endpoint,
            "the answer has no log-probabilities; serve the model with them, or use kind: litellm",
        )
    content, legacy = logprobs.get("content"), logprobs.get("top_logprobs")
    positions: list[dict[str, float]] = []
    if isinstance(content, list):
        for place in content[:VERDICT_TOKENS]:
            entries = place.get("top_logprobs") if isinstance(place, dict) else None
            listed = entries if isinstance(entries, list) else []
            pairs = ((e.get("token"), e.get("logprob")) for e in listed if isinstance(e, dict))
            positions.append(_numbers(pairs))
    elif isinstance(legacy, list):
        positions = [_numbers(p.items()) for p in legacy[:VERDICT_TOKENS] if isinstance(p, dict)]
    if not any(positions):
        raise _garbage(endpoint, "the answer lists no alternatives ('top_logprobs')")
    return positions


def _numbers(pairs: Any) -> dict[str, float]:
    return {
        token: float(value)
        for token, value in pairs
        if isinstance(token, str)
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and not math.isnan(value)
    }


def _unit(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)


def _garbage(endpoint: Endpoint, what: str) -> EndpointError:
    return EndpointError(f"{endpoint.url}: {what}", reason="garbage")
