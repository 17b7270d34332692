"""Bigger guards, as a policy names them: which there are, and when a rule asks one.

Types, JSON Schema and validation of ``guards:`` and of a rule's ``escalate:``. Asking them is
`guardrail.classifier.cascade`'s. An address stands in a policy or nowhere: a request can name
neither a guard nor a URL.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = [
    "ESCALATE_SCHEMA",
    "GUARDS_SCHEMA",
    "Combine",
    "Escalate",
    "GuardApi",
    "GuardKind",
    "GuardSpec",
    "GuardTemplate",
    "build_escalate",
    "build_guards",
    "guard_named",
]

Problem = Callable[[Sequence[str | int], str], Exception]

ALL_CATEGORIES: Final = "all"
"""Key of the calibration of every category that has none of its own."""


class GuardKind(StrEnum):
    """How a guard is asked."""

    OPENAI_LOGPROBS = "openai_logprobs"
    MODERATIONS = "moderations"
    LITELLM = "litellm"
    LOCAL = "local"


class GuardTemplate(StrEnum):
    """What a guard that is a language model is shown, and which words answer."""

    RUBRIC = "rubric"
    LLAMA_GUARD = "llama_guard"


class GuardApi(StrEnum):
    """Which of OpenAI's endpoints a guard speaks."""

    CHAT = "chat"
    COMPLETIONS = "completions"


class Combine(StrEnum):
    """What becomes of the embedded model's probability once a guard has answered."""

    REPLACE = "replace"
    MEAN = "mean"


@dataclass(frozen=True, slots=True)
class GuardSpec:
    """One guard of a policy.

    Args:
        name: Its name in the policy.
        kind: How it is asked.
        url: Base URL of the endpoint, such as ``http://127.0.0.1:8080/v1``; empty for LiteLLM
            and local models.
        model: The model's name at the endpoint, LiteLLM's name of it, or a local path.
        template: What a language model is shown.
        form: Name of a published guard model, for one that runs here.
        api: Which endpoint is called.
        key_env: Name of the variable that holds the API key, or None.
        timeout_ms: Longest time for one answer, waiting and retries included.
        concurrency: Most requests at once.
        retries: Most further attempts of one request.
        votes: Answers that are sampled from a model without log-probabilities.
        cache: Answers that are remembered, by content hash; 0 for none.
        max_chars: Longest text that is sent; a longer one is a failed check.
        probe: Whether it is asked once before the policy is used.
        combine: What becomes of the embedded model's probability.
        calibration: Slope and offset on the logit by category; ``all`` for the others.
    """

    name: str
    kind: GuardKind
    url: str = ""
    model: str = ""
    template: GuardTemplate = GuardTemplate.RUBRIC
    form: str = ""
    api: GuardApi = GuardApi.CHAT
    key_env: str | None = None
    timeout_ms: int = 2_000
    concurrency: int = 4
    retries: int = 1
    votes: int = 5
    cache: int = 10_000
    max_chars: int = 12_000
    probe: bool = True
    combine: Combine = Combine.REPLACE
    calibration: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def platt(self, category: str) -> tuple[float, float]:
        """Return slope and offset of a category; (1, 0) where the guard is not calibrated."""
        return self.calibration.get(category, self.calibration.get(ALL_CATEGORIES, (1.0, 0.0)))


@dataclass(frozen=True, slots=True)
class Escalate:
    """When a rule asks a bigger guard: for probabilities ``low <= p < high``.

    Args:
        low: The least probability for which it is asked.
        high: The probability from which it is not.
        guard: Name of the guard.
    """

    low: float
    high: float
    guard: str


def _whole(description: str, least: int, most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most, "description": description}


def _one_of(kind: type[StrEnum], description: str) -> dict[str, Any]:
    return {"type": "string", "enum": [m.value for m in kind], "description": description}


def _string(most: int, description: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most, "description": description}


_GUARD: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["kind"],
    "properties": {
        "kind": _one_of(
            GuardKind,
            "openai_logprobs: an OpenAI-compatible endpoint that returns log-probabilities. "
            "moderations: an endpoint like OpenAI's /v1/moderations. litellm: a model without "
            "log-probabilities, asked several times. local: another model on this machine.",
        ),
        "url": _string(2000, "Base URL, such as http://127.0.0.1:8080/v1."),
        "model": _string(
            500,
            "The model's name at the endpoint; of a local one the folder of a "
            "bundle, a .gguf file, or hf: and an id or folder.",
        ),
        "template": _one_of(
            GuardTemplate,
            "rubric: any instruct model is asked whether the text violates the category. "
            "llama_guard: a model whose own template asks, and that answers safe or unsafe.",
        ),
        "form": _string(
            100, "Published guard model that a local one is, such as llama-guard-3-8b."
        ),
        "api": _one_of(GuardApi, "Which of OpenAI's endpoints is called."),
        "key_env": _string(200, "Name of the variable that holds the API key."),
        "timeout_ms": _whole("Longest time for one answer, retries included.", 1, 600_000),
        "concurrency": _whole("Most requests at once.", 1, 256),
        "retries": _whole("Most further attempts of one request.", 0, 5),
        "votes": _whole("Answers that are sampled (kind litellm).", 1, 64),
        "cache": _whole("Answers that are remembered, by content hash; 0: none.", 0, 1_000_000),
        "max_chars": _whole("Longest text that is sent.", 100, 1_000_000),
        "probe": {
            "type": "boolean",
            "description": "Ask it once before the policy is used (default true).",
        },
        "combine": _one_of(
            Combine,
            "replace: the guard's probability counts. mean: the mean of both, as logits.",
        ),
        "calibration": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 200,
            "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,63}$"},
            "additionalProperties": {
                "type": "array",
                "items": {"type": "number", "minimum": -1000, "maximum": 1000},
                "minItems": 2,
                "maxItems": 2,
            },
            "description": "[slope, offset] on the guard's logit by category, or for 'all'; "
            "`guardrail cascade tune` writes it.",
        },
    },
}

GUARDS_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "maxProperties": 16,
    "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,63}$"},
    "additionalProperties": _GUARD,
    "description": "Bigger guards by name, for the 'escalate:' of a category.",
}

ESCALATE_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["band", "guard"],
    "properties": {
        "band": {
            "type": "array",
            "items": {"type": "number", "minimum": 0, "maximum": 1},
            "minItems": 2,
            "maxItems": 2,
            "description": "[low, high): the guard is asked for probabilities in this band.",
        },
        "guard": _string(64, "Name of one of 'guards:'."),
    },
    "description": "Ask a bigger guard where the embedded model is unsure.",
}

_NEEDS: Final[Mapping[GuardKind, tuple[str, ...]]] = MappingProxyType(
    {
        GuardKind.OPENAI_LOGPROBS: ("url", "model"),
        GuardKind.MODERATIONS: ("url",),
        GuardKind.LITELLM: ("model",),
        GuardKind.LOCAL: ("model",),
    }
)
_HAS_NO: Final[Mapping[GuardKind, tuple[str, ...]]] = MappingProxyType(
    {
        GuardKind.OPENAI_LOGPROBS: ("votes", "form"),
        GuardKind.MODERATIONS: ("votes", "template", "form", "api"),
        GuardKind.LITELLM: ("template", "form", "api"),
        GuardKind.LOCAL: ("votes", "template", "api", "url", "key_env", "retries"),
    }
)


def build_guards(
    document: Mapping[str, Any], timeout_ms: int, problem: Problem
) -> Mapping[str, GuardSpec]:
    """Read the guards of a document that satisfies the schema.

    Args:
        document: The policy document.
        timeout_ms: Longest time for one check of the policy.
        problem: Called with a path and a message for what a schema cannot say.

    Returns:
        The guards by name.

    Raises:
        Exception: What ``problem`` makes.
    """
    return {
        name: _guard(name, body, timeout_ms, problem)
        for name, body in document.get("guards", {}).items()
    }


def _guard(name: str, body: Mapping[str, Any], timeout_ms: int, problem: Problem) -> GuardSpec:
    where = ("guards", name)
    kind = GuardKind(body["kind"])
    for key in _NEEDS[kind]:
        if key not in body:
            raise problem(where, f"guard '{name}' of kind {kind.value} lacks '{key}:'; add it")
    for key in _HAS_NO[kind]:
        if key in body:
            raise problem((*where, key), f"a guard of kind {kind.value} has no '{key}:'; remove it")
    if "url" in body:
        _check_url(body["url"], (*where, "url"), problem)
    spec = GuardSpec(
        **{
            **body,
            "name": name,
            "kind": kind,
            "template": GuardTemplate(body.get("template", "rubric")),
            "api": GuardApi(body.get("api", "chat")),
            "combine": Combine(body.get("combine", "replace")),
            "calibration": {k: (v[0], v[1]) for k, v in body.get("calibration", {}).items()},
        }
    )
    if any(slope <= 0 for slope, _ in spec.calibration.values()):
        raise problem((*where, "calibration"), "a slope is 0 or less; fit the calibration again")
    if spec.timeout_ms >= timeout_ms:
        raise problem(
            (*where, "timeout_ms") if "timeout_ms" in body else where,
            f"guard '{name}' may take {spec.timeout_ms} ms and the whole check only {timeout_ms}; "
            "lower its 'timeout_ms:' or raise the policy's",
        )
    return spec


def _check_url(url: str, where: Sequence[str | int], problem: Problem) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise problem(where, "not an http(s) URL; write it like http://127.0.0.1:8080/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise problem(
            where, "leave out user, password, query and fragment; name the key with 'key_env:'"
        )


def build_escalate(
    body: Mapping[str, Any],
    guards: Mapping[str, GuardSpec],
    where: Sequence[str | int],
    problem: Problem,
) -> Escalate | None:
    """Read the ``escalate:`` of a rule.

    Args:
        body: The rule.
        guards: The policy's guards.
        where: Path of the ``escalate:``.
        problem: Called with a path and a message for what a schema cannot say.

    Returns:
        The band, or None where the rule has none.

    Raises:
        Exception: What ``problem`` makes.
    """
    if "escalate" not in body:
        return None
    (low, high), guard = body["escalate"]["band"], body["escalate"]["guard"]
    if low >= high:
        raise problem(
            (*where, "band"), f"the band [{low}, {high}) is empty; the low end comes first"
        )
    guard_named(guard, guards, (*where, "guard"), problem)
    return Escalate(low, high, guard)


def guard_named(
    name: str, guards: Mapping[str, GuardSpec], where: Sequence[str | int], problem: Problem
) -> None:
    """Refuse the name of a guard that the policy does not have.

    Args:
        name: The name.
        guards: The policy's guards.
        where: Path of the name.
        problem: Called with a path and a message.

    Raises:
        Exception: What ``problem`` makes.
    """
    if name not in guards:
        near = difflib.get_close_matches(name, guards, 1, 0.6)
        hint = f"did you mean '{near[0]}'?" if near else "name it under 'guards:'"
        raise problem(where, f"no guard is called '{name[:64]}'; {hint}")
