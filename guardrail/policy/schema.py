"""Policy types, and the JSON Schema that a policy document must satisfy.

Pure: no files, no YAML. `SCHEMA` is the single description of the document; `build` turns a
document that satisfies it into frozen types and checks what a schema cannot say. Knows
neither models nor HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from guardrail.taxonomy import CATEGORIES
from guardrail.types import UNSAFE, Action, Direction, Role

__all__ = [
    "CATEGORY_KEYS",
    "SCHEMA",
    "FailureMode",
    "InputCheck",
    "Mode",
    "Policy",
    "Review",
    "Rule",
    "StreamPolicy",
    "Turns",
    "build",
]

CATEGORY_KEYS: Final[tuple[str, ...]] = (UNSAFE, *CATEGORIES)
"""Categories that a rule may name: the overall one and the taxonomy's."""

DEFAULT_MESSAGE: Final = "This content was blocked by a safety policy."
DEFAULT_ROLES: Final = frozenset({Role.USER, Role.ASSISTANT, Role.TOOL})


class FailureMode(StrEnum):
    """What a rule does when its check cannot be made."""

    CLOSED = "closed"
    OPEN = "open"


class Mode(StrEnum):
    """Whether verdicts are carried out or only recorded."""

    ENFORCE = "enforce"
    MONITOR = "monitor"


class Turns(StrEnum):
    """How much of a conversation is checked on input."""

    LATEST = "latest_turn"
    ALL = "all"


class InputCheck(StrEnum):
    """Whether the upstream waits for the verdict on the input."""

    BEFORE = "before"
    PARALLEL = "parallel"


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """How a streamed answer is held; `guardrail.stream.StreamSettings` has the same fields.

    Args:
        mode: ``hold``, ``trail`` or ``monitor``.
        first_chars: New characters before the first check of a channel.
        stride_chars: New characters between checks once the stride has grown.
        lookahead_chars: Characters that must follow a text before it goes out.
        context_chars: Judged characters that are shown again before each window.
        max_hold_ms: Longest time that a text waits before it is checked as it stands.
    """

    mode: str = "hold"
    first_chars: int = 24
    stride_chars: int = 112
    lookahead_chars: int = 32
    context_chars: int = 112
    max_hold_ms: int = 1000


@dataclass(frozen=True, slots=True)
class Review:
    """Probabilities for which a person is asked: ``low <= p < high``."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rule:
    """What to do about one category.

    Args:
        category: Category key.
        directions: Directions in which it applies.
        roles: Speakers on input to whom it applies.
        action: The most severe action it may take.
        flag: Probability from which it flags, or None for never.
        block: Probability from which it blocks, or None for never.
        review: Band in which a person is asked, or None.
        failure: What it does when its check cannot be made.
        message: Text for the user when it blocks, or None for the policy's own.
    """

    category: str
    directions: frozenset[Direction]
    roles: frozenset[Role]
    action: Action
    flag: float | None
    block: float | None
    review: Review | None
    failure: FailureMode
    message: str | None


@dataclass(frozen=True, slots=True)
class Policy:
    """A validated policy.

    Args:
        name: Its name.
        content_hash: SHA-256 (hex) of its canonical content; the version in force.
        description: One paragraph for people.
        mode: Enforce or monitor.
        rules: One for each category, in the order of the file.
        roles: Speakers whose input is checked at all.
        turns: How much of a conversation is checked on input.
        input_check: Whether the upstream waits for the verdict on the input.
        timeout_ms: Longest time for one check.
        message: Text for the user when something is blocked.
        stream: How streamed answers are held.
    """

    name: str
    content_hash: str
    description: str = ""
    mode: Mode = Mode.ENFORCE
    rules: tuple[Rule, ...] = ()
    roles: frozenset[Role] = DEFAULT_ROLES
    turns: Turns = Turns.LATEST
    input_check: InputCheck = InputCheck.BEFORE
    timeout_ms: int = 10_000
    message: str = DEFAULT_MESSAGE
    stream: StreamPolicy = field(default_factory=StreamPolicy)

    @property
    def identity(self) -> str:
        """Name and the first 12 digits of the hash, as verdicts and headers carry it."""
        return f"{self.name}@{self.content_hash[:12]}"

    def applies(self, direction: Direction) -> bool:
        """Whether any rule looks at texts that travel this way."""
        return any(direction in rule.directions for rule in self.rules)

    def may_block(self, direction: Direction) -> bool:
        """Whether any rule can block texts that travel this way."""
        return self.mode is Mode.ENFORCE and any(
            direction in rule.directions and rule.action is Action.BLOCK for rule in self.rules
        )

    def message_for(self, categories: Sequence[str]) -> str:
        """Return the text for the user: that of the first category that has its own."""
        own = {rule.category: rule.message for rule in self.rules}
        return next((text for key in categories if (text := own.get(key))), self.message)


def _object(properties: dict[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _choice(values: Sequence[str], description: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values), "description": description}


def _count(description: str, maximum: int, minimum: int = 1) -> dict[str, Any]:
    return {
        "type": "integer",
        "minimum": minimum,
        "maximum": maximum,
        "description": description,
    }


_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_MESSAGE = {"type": "string", "minLength": 1, "maxLength": 2000}
_ROLES = {
    "type": "array",
    "items": {"type": "string", "enum": [r.value for r in Role if r is not Role.TEXT]},
    "minItems": 1,
    "uniqueItems": True,
    "description": "Speakers on input: system, user, assistant, tool.",
}
_FAILURE = _choice([m.value for m in FailureMode], "What happens when a check cannot be made.")

_RULE = _object(
    {
        "direction": _choice(["input", "output", "both"], "Which way a text travels."),
        "roles": _ROLES,
        "action": _choice([a.value for a in Action], "The most severe action of this rule."),
        "flag": {**_PROBABILITY, "description": "Flag from this probability on."},
        "block": {**_PROBABILITY, "description": "Block from this probability on."},
        "review": {
            "type": "array",
            "items": _PROBABILITY,
            "minItems": 2,
            "maxItems": 2,
            "description": "[low, high): a person is asked for probabilities in this band.",
        },
        "failure": _FAILURE,
        "message": {**_MESSAGE, "description": "Text for the user when this rule blocks."},
    }
)

_STREAM = _object(
    {
        "mode": _choice(
            ["hold", "trail", "monitor"],
            "hold: nothing unjudged leaves. trail: released at once, cut when the verdict "
            "falls. monitor: recorded only.",
        ),
        "first_chars": _count("New characters before the first check.", 10_000),
        "stride_chars": _count("New characters between checks.", 100_000),
        "lookahead_chars": _count("Characters that must follow before release.", 10_000, 0),
        "context_chars": _count("Judged characters shown again.", 100_000, 0),
        "max_hold_ms": _count("Longest wait before a text is checked as it is.", 600_000),
    }
)

SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "guardrail policy",
    **_object(
        {
            "version": {"const": 1, "description": "Version of the policy language."},
            "name": {
                "type": "string",
                "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$",
                "description": "Lower-case letters, digits, - and _.",
            },
            "description": {"type": "string", "maxLength": 4000},
            "mode": _choice([m.value for m in Mode], "enforce, or only monitor."),
            "message": {**_MESSAGE, "description": "Text for the user when blocked."},
            "timeout_ms": _count("Longest time for one check.", 600_000),
            "failure": _object({"block": _FAILURE, "flag": _FAILURE}),
            "input": _object(
                {
                    "roles": _ROLES,
                    "turns": _choice([t.value for t in Turns], "Latest turn only, or all."),
                    "check": _choice(
                        [c.value for c in InputCheck],
                        "before: the upstream waits for the verdict. parallel: the answer does.",
                    ),
                }
            ),
            "stream": _STREAM,
            "categories": {
                "type": "object",
                "properties": dict.fromkeys(CATEGORY_KEYS, _RULE),
                "additionalProperties": False,
                "description": "Rules by category key.",
            },
        },
        required=["version", "name", "categories"],
    ),
}
"""JSON Schema (2020-12) of a policy document; ``guardrail policy schema`` prints it."""

Problem = Callable[[Sequence[str | int], str], Exception]
"""Makes the exception for a mistake at a path of the document."""


def build(document: Mapping[str, Any], content_hash: str, problem: Problem) -> Policy:
    """Turn a document that satisfies `SCHEMA` into a `Policy`.

    Args:
        document: The parsed document.
        content_hash: SHA-256 (hex) of its canonical content.
        problem: Called with a path and a message for what a schema cannot say.

    Returns:
        The policy.

    Raises:
        Exception: What ``problem`` makes, for thresholds that contradict one another.
    """
    failure = document.get("failure", {})
    scope = document.get("input", {})
    rules = (_rule(key, body, failure, problem) for key, body in document["categories"].items())
    return Policy(
        name=document["name"],
        content_hash=content_hash,
        description=document.get("description", ""),
        mode=Mode(document.get("mode", "enforce")),
        rules=tuple(rules),
        roles=_roles(scope) or DEFAULT_ROLES,
        turns=Turns(scope.get("turns", "latest_turn")),
        input_check=InputCheck(scope.get("check", "before")),
        timeout_ms=document.get("timeout_ms", 10_000),
        message=document.get("message", DEFAULT_MESSAGE),
        stream=StreamPolicy(**document.get("stream", {})),
    )


def _roles(body: Mapping[str, Any]) -> frozenset[Role]:
    return frozenset(Role(name) for name in body.get("roles", ()))


def _rule(key: str, body: Mapping[str, Any], failure: Mapping[str, str], problem: Problem) -> Rule:
    where = ("categories", key)
    flag, block = body.get("flag"), body.get("block")
    action = Action(body.get("action", "block" if block is not None else "flag"))
    if flag is None and block is None and action is not Action.PASS:
        raise problem(where, f"'{key}' has no threshold; add 'flag:' or 'block:' (0 to 1)")
    if flag is not None and block is not None and flag > block:
        raise problem(
            (*where, "flag"),
            f"'flag: {flag}' is above 'block: {block}', so it can never flag; lower it",
        )
    if action is Action.BLOCK and block is None:
        raise problem((*where, "action"), "'action: block' needs a 'block:' threshold")
    wanted = body.get("direction", "both")
    default = (
        failure.get("block", "closed") if action is Action.BLOCK else failure.get("flag", "open")
    )
    return Rule(
        category=key,
        directions=frozenset(Direction) if wanted == "both" else frozenset((Direction(wanted),)),
        roles=_roles(body) or frozenset(Role),
        action=action,
        flag=flag,
        block=block,
        review=_review(body, (*where, "review"), problem),
        failure=FailureMode(body.get("failure", default)),
        message=body.get("message"),
    )


def _review(body: Mapping[str, Any], where: Sequence[str | int], problem: Problem) -> Review | None:
    if "review" not in body:
        return None
    low, high = body["review"]
    if low >= high:
        raise problem(where, f"the review band [{low}, {high}) is empty; the low end comes first")
    return Review(low, high)
