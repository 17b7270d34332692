"""Models behind an address: read by log-probability, by their own verdict, or as moderation APIs.

`RemoteModel` is an `AnswerModel`, so that whatever asks a local model can ask one elsewhere. What
goes over the wire is in `guardrail.classifier.endpoint`. Numbers are as the model gives them:
calibration, cache and breaker are `guardrail.classifier.cascade`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from guardrail.classifier.answers import Answers, Prompt
from guardrail.classifier.base import Sample
from guardrail.classifier.endpoint import Endpoint, EndpointError
from guardrail.errors import SettingsError
from guardrail.policy import GuardApi
from guardrail.taxonomy import CATEGORIES, OPENAI_MODERATION, Family, by_id
from guardrail.types import UNSAFE, Coverage, Role, Scores

__all__ = ["LlamaGuardJudge", "ModerationsJudge", "RemoteModel", "plain_text"]

TOP: Final = 20
"""Alternatives that are asked for at each position: the most that OpenAI's API allows."""
VERDICT_TOKENS: Final = 24
"""Room for ``unsafe`` and a line of codes; the probability comes from the first word."""
NEGLIGIBLE: Final = 0.01
"""Share of P(unsafe) of a category that the guard did not list."""
MAX_PROMPT_CHARS: Final = 4_000
"""Most of the user turn before an answer that a guard is shown; its end."""
ROUNDING: Final = 0.01
"""How far above 0 a log-probability may lie; beyond it is a logit, or nothing at all."""
LOWEST: Final = -1e4
"""Log-probability of what is as good as impossible, in place of minus infinity."""
LEAST_REST: Final = 1e-6
"""Least that the listed tokens are taken to leave to all others: more than rounding costs."""


_MARKERS: Final = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|</?s>|\[/?INST\]|<</?SYS>>"
    r"|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>",
    re.IGNORECASE,
)
"""Special tokens of the usual chat templates. Servers, llama.cpp among them, read them inside a
message as well, where a text could end its own turn and answer for the model."""


def plain_text(text: str) -> str:
    """Break up the special tokens of chat templates: a space makes them text.

    One pass is enough, since no marker holds another or a space.
    """
    return _MARKERS.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


class RemoteModel:
    """An instruct model at an OpenAI-compatible endpoint that returns log-probabilities.

    It answers one question a call, by the likeliest first words. Of an answer that is not among
    them only an upper bound is known, the least that is listed or what the list leaves over; it
    counts as that.

    Args:
        endpoint: The API.
        model: The model's name there; who serves it vouches for its content.
        api: Which endpoint is called.
    """

    def __init__(self, endpoint: Endpoint, model: str, api: GuardApi = GuardApi.CHAT) -> None:
        self._endpoint = endpoint
        self._model = model
        self._api = api

    @property
    def model_id(self) -> str:
        """The model's name at its endpoint."""
        return self._model

    def answers(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Answers:
        """Ask, and return the probability of each option; see `AnswerModel.answers`.

        Raises:
            SettingsError: A prompt begins the answer or is in the model's own format, which
                chat completions do not take.
            EndpointError: There is no usable answer.
        """
        rows = [self._one(prompt, options) for prompt in prompts]
        count = len(prompts)
        return Answers(
            np.array([row for row, _ in rows], dtype=np.float64).reshape(count, len(options)),
            np.array([tokens for _, tokens in rows], dtype=np.int64),
            np.zeros(count, dtype=np.int64),
        )

    def _one(self, prompt: Prompt, options: Sequence[Sequence[str]]) -> tuple[list[float], int]:
        body: dict[str, Any] = {"model": self._model, "max_tokens": 1, "temperature": 0}
        if self._api is GuardApi.CHAT:
            if prompt.raw or prompt.prefill:
                raise SettingsError(f"{self._model}: this question needs 'api: completions'")
            path = "/chat/completions"
            body |= {"messages": [{"role": "user", "content": plain_text(prompt.text)}]}
            body |= {"logprobs": True, "top_logprobs": TOP}
        else:
            path = "/completions"
            text = prompt.text if prompt.raw else f"{plain_text(prompt.text)}\nAnswer:"
            body |= {"prompt": text + prompt.prefill, "logprobs": TOP}
        answer = self._endpoint.post(path, body)
        tops = _tops(_choice(answer, self._endpoint), self._endpoint)
        found = _options(tops[:1], options)
        if found is None:
            words = " nor ".join(spellings[0] for spellings in options)
            raise _garbage(self._endpoint, f"neither {words} has a number among the first words")
        return found, _prompt_tokens(answer)


def _options(
    tops: Sequence[Mapping[str, float]], options: Sequence[Sequence[str]]
) -> list[float] | None:
    """Return the log-probability of each option at the first position that lists one, or None.

    Spellings that differ in case or surrounding space are one word, and are added up. A spelling
    whose number is none (NaN) says nothing, and so the others do not either.
    """
    words = [{spelling.strip().lower() for spelling in spellings} for spellings in options]
    for top in tops:
        mass = [0.0] * len(options)
        for token, logprob in top.items():
            word = token.strip().lower()
            for number, known in enumerate(words):
                if word in known:
                    mass[number] += math.exp(min(logprob, 0.0))
        if any(map(math.isnan, mass)):
            return None
        if any(mass):
            known_logprobs = [min(p, 0.0) for p in top.values() if not math.isnan(p)]
            rest = 1.0 - sum(map(math.exp, known_logprobs))
            least = min(*known_logprobs, math.log(max(rest, LEAST_REST)))
            return [math.log(value) if value else least for value in mass]
    return None


class LlamaGuardJudge:
    """A guard with a template of its own, which its server applies: Llama Guard and its kin.

    Format: https://github.com/meta-llama/PurpleLlama (Llama Guard 3 model card): the first word
    is ``safe`` or ``unsafe``; then, on the next line, codes such as ``S1,S10``.

    Args:
        endpoint: An OpenAI-compatible API that returns log-probabilities.
        model: The model's name there.
    """

    batch = 1
    by_category = False

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self._endpoint = endpoint
        self._model = model

    @property
    def model_id(self) -> str:
        """The model's name at its endpoint."""
        return self._model

    @property
    def categories(self) -> tuple[str, ...]:
        """The hazards S1 to S14."""
        return tuple(k for k, c in CATEGORIES.items() if c.family is Family.HAZARD)

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch for all categories and the overall one."""
        return self.ask(samples, (UNSAFE, *self.categories))

    def ask(self, samples: Sequence[Sample], categories: Sequence[str]) -> list[Scores]:
        """Score a batch for some categories, one call for each text."""
        unknown = [key for key in categories if key not in (UNSAFE, *self.categories)]
        if unknown:
            raise _garbage(self._endpoint, f"Llama Guard has no category '{unknown[0]}'")
        return [self._one(sample, categories) for sample in samples]

    def _one(self, sample: Sample, categories: Sequence[str]) -> Scores:
        body = {
            "model": self._model,
            "messages": _conversation(sample),
            "max_tokens": VERDICT_TOKENS,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": TOP,
        }
        choice = _choice(self._endpoint.post("/chat/completions", body), self._endpoint)
        # Some vocabularies write "unsafe" as two tokens, the first of which is no word.
        found = _options(_tops(choice, self._endpoint), (("unsafe", "uns", "un"), ("safe",)))
        if found is None:
            raise _garbage(self._endpoint, "neither safe nor unsafe has a number at the start")
        chance = 1.0 / (1.0 + math.exp(min(found[1] - found[0], 60.0)))
        said = _content(choice)
        listed = {c.key for code in _CODE.findall(said) if (c := by_id(code))}
        of_hazards = any(key != UNSAFE for key in categories)
        if of_hazards and chance >= 0.5 and not listed and not said.lstrip().startswith("safe"):
            raise _garbage(self._endpoint, "it says unsafe and names no hazard, such as S1")
        values = {
            key: chance if key == UNSAFE or key in listed else chance * NEGLIGIBLE
            for key in categories
        }
        size = len(sample.text)
        return Scores(values, self.model_id, Coverage(size, size))


_CODE: Final = re.compile(r"\bS\d{1,2}\b")


def _conversation(sample: Sample) -> list[dict[str, str]]:
    text = plain_text(sample.context + sample.text)
    if sample.role is not Role.ASSISTANT:
        return [{"role": "user", "content": text}]
    asked = plain_text((sample.prompt or "")[-MAX_PROMPT_CHARS:])
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]


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


def _prompt_tokens(answer: Any) -> int:
    usage = answer.get("usage") if isinstance(answer, dict) else None
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) and 0 <= count < 1 << 31 else 0


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
    if not any(not math.isnan(value) for place in positions for value in place.values()):
        raise _garbage(endpoint, "the answer lists no alternatives ('top_logprobs')")
    return positions


def _numbers(pairs: Any) -> dict[str, float]:
    return {token: _logprob(value) for token, value in pairs if isinstance(token, str)}


def _logprob(value: object) -> float:
    """Return a log-probability; NaN for what is none."""
    # NaN is not below anything, and an integer may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= ROUNDING:
        return math.nan
    return float(max(value, LOWEST))


def _unit(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)


def _garbage(endpoint: Endpoint, what: str) -> EndpointError:
    return EndpointError(f"{endpoint.url}: {what}", reason="garbage")
