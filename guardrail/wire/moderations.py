"""``/v1/moderations``, answered here in OpenAI's shape.

Written from https://platform.openai.com/docs/api-reference/moderations. Not a dialect to relay:
functions that read a request and write the answer from scores and decisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guardrail.errors import WireError
from guardrail.taxonomy import CATEGORIES, OPENAI_AND, OPENAI_MODERATION
from guardrail.types import UNSAFE, Scores
from guardrail.wire.json import clean, dump, optional, parse_object, strict_keys

__all__ = [
    "MAX_INPUTS",
    "ModerationInput",
    "ModerationRequest",
    "ModerationResult",
    "read_moderation",
    "write_moderation",
]

MAX_INPUTS = 1024
"""Bound on the texts of one request."""


@dataclass(frozen=True, slots=True)
class ModerationInput:
    """What one result of the answer is about.

    Args:
        text: The text; the parts of a multi-part input joined by newlines.
    """

    text: str


@dataclass(frozen=True, slots=True)
class ModerationRequest:
    """One request.

    Args:
        inputs: One for each result that the client expects, in order.
        model: The model that it names, if any.
        skipped: What could not be scanned: images.
    """

    inputs: tuple[ModerationInput, ...]
    model: str | None = None
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModerationResult:
    """What was found in one input.

    Args:
        scores: Calibrated probabilities by category key.
        flagged: Keys of the categories whose threshold was crossed, custom ones included.
    """

    scores: Scores
    flagged: frozenset[str] = frozenset()


def read_moderation(body: bytes) -> ModerationRequest:
    """Read a request: a string, a list of strings, or a list of text and image parts.

    Args:
        body: The bytes as they came.

    Returns:
        The texts; a list of strings has a result each, a list of parts has one together.

    Raises:
        WireError: The body does not have that shape. ``param`` names the field.
    """
    payload = parse_object(body, what="request body")
    strict_keys(payload, ("input", "model"), "")
    model = optional(payload, "model", str)
    value = payload.get("input")
    if isinstance(value, str):
        return ModerationRequest((ModerationInput(clean(value)),), model)
    if not isinstance(value, list) or not value:
        raise WireError("input must be a string or a list", param="input")
    if len(value) > MAX_INPUTS:
        raise WireError(f"input must have at most {MAX_INPUTS} elements", param="input")
    if all(isinstance(item, str) for item in value):
        return ModerationRequest(tuple(ModerationInput(clean(item)) for item in value), model)
    texts: list[str] = []
    skipped: list[str] = []
    for place, part in enumerate(value):
        _read_part(part, f"input[{place}]", texts, skipped)
    return ModerationRequest((ModerationInput("\n".join(texts)),), model, tuple(skipped))


def _read_part(part: object, path: str, texts: list[str], skipped: list[str]) -> None:
    if not isinstance(part, dict):
        raise WireError(f"{path} must be an object: strings and parts do not mix", param=path)
    strict_keys(part, ("type", "text"), path)
    kind = part.get("type")
    if kind == "text":
        text = optional(part, "text", str, path)
        if text is None:
            raise WireError(f"{path}.text must be a string", param=f"{path}.text")
        texts.append(clean(text))
    elif kind == "image_url":
        skipped.append(f"{path}: image_url")
    else:
        raise WireError(f"{path}.type must be text or image_url", param=f"{path}.type")


def write_moderation(
    results: Sequence[ModerationResult],
    *,
    id: str,  # noqa: A002  (the field's name in the dialect)
    model: str,
) -> bytes:
    """Write the answer: OpenAI's 13 names, our keys, the ids S1 to X9, and custom categories.

    Args:
        results: One for each input.
        id: Identity of the answer.
        model: What produced the scores.

    Returns:
        The body.
    """
    return dump({"id": id, "model": model, "results": [_result(result) for result in results]})


def _result(result: ModerationResult) -> dict[str, Any]:
    scores = {key: p for key, p in result.scores.categories.items() if key != UNSAFE}
    marks: dict[str, bool] = {}
    numbers: dict[str, float] = {}
    for name in OPENAI_MODERATION:
        numbers[name], marks[name] = _openai(name, scores, result.flagged)
    own = [key for key in CATEGORIES if key in scores or key in result.flagged]
    custom = sorted((set(scores) | result.flagged) - set(CATEGORIES) - {UNSAFE})
    for key in (*own, *custom):
        names = (key, CATEGORIES[key].id) if key in CATEGORIES else (key,)
        for name in names:  # a key that is also one of OpenAI's names keeps their meaning
            numbers.setdefault(name, scores.get(key, 0.0))
            marks.setdefault(name, key in result.flagged)
    return {
        "flagged": bool(result.flagged),
        "categories": marks,
        "category_scores": numbers,
        "category_applied_input_types": {name: ["text"] for name in numbers},
    }


def _openai(name: str, scores: Mapping[str, float], flagged: frozenset[str]) -> tuple[float, bool]:
    """Return score and mark of one of OpenAI's names from those of our keys."""
    keys = OPENAI_MODERATION[name]
    score = max((scores.get(key, 0.0) for key in keys), default=0.0)
    mark = any(key in flagged for key in keys)
    second = OPENAI_AND.get(name)
    if second is not None:
        score = min(score, scores.get(second, 0.0))
        mark = mark and second in flagged
    return score, mark
