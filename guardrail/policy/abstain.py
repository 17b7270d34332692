"""What a rule does where the model is not sure enough to say either: ``abstain:``.

Types, JSON Schema and validation. The band of probabilities follows from the confidence that is
asked for, and from labelled data: `guardrail.classifier.abstain` resolves it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from guardrail.policy.guards import GuardSpec, Problem, guard_named

__all__ = ["ABSTAIN_SCHEMA", "Abstain", "OnAbstain", "build_abstain"]


class OnAbstain(StrEnum):
    """What becomes of a text on which the model abstains."""

    REVIEW = "review"
    ESCALATE = "escalate"
    BLOCK = "block"
    FLAG = "flag"
    PASS = "pass"  # noqa: S105  (not a password)


@dataclass(frozen=True, slots=True)
class Abstain:
    """When the model abstains, and what that means.

    Args:
        confidence: Share of the violating texts that are not to be called safe, and of the others
            that are not to be called violating, at least.
        action: What becomes of a text on which it abstains.
        guard: Name of the guard that is asked, for ``escalate``; else empty.
        low: Probability below which it says safe; None until resolved.
        high: Probability from which it says violating; None until resolved. At or below ``low``
            where it never abstains.
    """

    confidence: float
    action: OnAbstain
    guard: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def resolved(self) -> bool:
        """Whether the band is known."""
        return self.low is not None and self.high is not None

    def holds(self, probability: float) -> bool:
        """Whether the model abstains at a probability: ``low <= p < high``."""
        return (
            self.low is not None and self.high is not None and self.low <= probability < self.high
        )


ABSTAIN_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["confidence", "action"],
    "properties": {
        "confidence": {
            "type": "number",
            "exclusiveMinimum": 0.5,
            "exclusiveMaximum": 1,
            "description": "Share of either kind of text that must not be called the other.",
        },
        "action": {
            "type": "string",
            "enum": [one.value for one in OnAbstain],
            "description": "review: a person is asked. escalate: a bigger guard is. block, flag, "
            "pass: what becomes of the text.",
        },
        "guard": {
            "type": "string",
            "minLength": 1,
            "maxLength": 64,
            "description": "Name of one of 'guards:', for action escalate.",
        },
    },
    "description": "What to do where the model cannot say either at this confidence.",
}


def build_abstain(
    body: Mapping[str, Any],
    guards: Mapping[str, GuardSpec],
    where: Sequence[str | int],
    problem: Problem,
) -> Abstain | None:
    """Read the ``abstain:`` of a rule.

    Args:
        body: The rule.
        guards: The policy's guards.
        where: Path of the ``abstain:``.
        problem: Called with a path and a message for what a schema cannot say.

    Returns:
        What it says, unresolved, or None where the rule has none.

    Raises:
        Exception: What ``problem`` makes.
    """
    if "abstain" not in body:
        return None
    said = body["abstain"]
    action, guard = OnAbstain(said["action"]), said.get("guard", "")
    if action in (OnAbstain.REVIEW, OnAbstain.ESCALATE) and action.value in body:
        raise problem(where, f"'abstain:' makes the '{action}:' band itself; remove one of the two")
    if action is OnAbstain.BLOCK and "block" not in body:
        raise problem((*where, "action"), "'action: block' needs a 'block:' threshold in the rule")
    if (action is OnAbstain.ESCALATE) != bool(guard):
        raise problem(
            where, "'guard:' and 'action: escalate' go together; add or remove one of them"
        )
    if guard:
        guard_named(guard, guards, (*where, "guard"), problem)
    return Abstain(said["confidence"], action, guard)
