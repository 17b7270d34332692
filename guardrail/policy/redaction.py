"""What `action: redact` asks of a policy, beyond its schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from guardrail.policy.patterns import compile_pattern, compile_words
from guardrail.policy.schema import CATEGORY_KEYS
from guardrail.policy.types import InputCheck, Rule
from guardrail.types import Action, Direction

__all__ = ["check_order", "check_placeholders", "check_redacts", "placeholder_for"]

Problem = Callable[[Sequence[str | int], str], Exception]


def placeholder_for(rule: Rule, kind: str) -> str:
    """Return what stands for a redacted place.

    Args:
        rule: The rule that found it.
        kind: The detector's name, or the category.
    """
    return rule.placeholder.replace("{kind}", kind).replace("{category}", rule.category)


def check_redacts(
    key: str, body: Mapping[str, Any], where: Sequence[str | int], problem: Problem
) -> None:
    """Refuse to redact what has no place in the text.

    Raises:
        Exception: What ``problem`` makes.
    """
    shaped = any(name in body for name in ("patterns", "words", "detectors"))
    if key in CATEGORY_KEYS or "rubric" in body or not shaped:
        raise problem(
            (*where, "action"),
            f"'{key}' cannot be redacted: a model judges a text as a whole and names no place in "
            "it; only categories of your own with nothing but 'patterns:', 'words:' and "
            "'detectors:' can. Use 'action: block' or 'flag', or move the patterns to a "
            "category of their own",
        )
    for name in ("flag", "block"):
        if isinstance(body.get(name), Mapping):
            raise problem(
                (*where, name), f"'{key}' redacts each match, so '{name}:' has no target to meet"
            )


def check_order(rules: Iterable[Rule], order: InputCheck, problem: Problem) -> None:
    """Refuse to redact requests that are sent while they are still being judged.

    Raises:
        Exception: What ``problem`` makes.
    """
    for rule in rules:
        redacts = rule.action is Action.REDACT and Direction.INPUT in rule.directions
        if redacts and order is InputCheck.PARALLEL:
            raise problem(
                ("input", "check"),
                f"'check: parallel' sends a request before '{rule.category}' can redact it; use "
                "'before', or 'direction: output' in that rule",
            )


def check_placeholders(rules: Sequence[Rule], problem: Problem) -> None:
    """Refuse a placeholder that would be redacted in its turn.

    Raises:
        Exception: What ``problem`` makes.
    """
    redacting = [rule for rule in rules if rule.action is Action.REDACT]
    for rule in redacting:
        kinds = {d.value for d in rule.matchers.detectors} | {rule.category}
        for shown in {placeholder_for(rule, kind) for kind in kinds}:
            other = next((r for r in redacting if _matches(r, shown)), None)
            if other is not None:
                raise problem(
                    ("categories", rule.category),
                    f"the placeholder '{shown}' is matched by the patterns or words of "
                    f"'{other.category}'; choose another with 'placeholder:'",
                )


def _matches(rule: Rule, text: str) -> bool:
    tests = [compile_pattern(p) for p in rule.matchers.patterns]
    if rule.matchers.words:
        tests.append(compile_words(rule.matchers.words))
    return any(next(test.find(text, 1), None) is not None for test in tests)
