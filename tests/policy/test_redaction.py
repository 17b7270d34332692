"""`action: redact` in policies: what may redact, and what is refused with the fix."""

from __future__ import annotations

import pytest

from guardrail.errors import PolicyError
from guardrail.policy import FailureMode, parse_policy
from guardrail.types import Action, Direction

HEAD = "version: 1\nname: t\n"


def parsed(rules: str, more: str = ""):
    return parse_policy(f"{HEAD}{more}categories: {{{rules}}}")


def test_a_rule_of_shapes_redacts_every_match_without_a_threshold() -> None:
    policy = parsed("mail: {detectors: [email], action: redact, direction: output}")
    rule = policy.rules[0]
    assert (rule.action, rule.block, rule.flag) == (Action.REDACT, 0.5, None)
    assert rule.failure is FailureMode.CLOSED
    assert policy.redacts(Direction.OUTPUT)
    assert not policy.redacts(Direction.INPUT)
    assert policy.may_block(Direction.OUTPUT)


def test_an_inherited_threshold_does_not_stand_in_the_way() -> None:
    for threshold in ("block: 0.5", "flag: 0.5", "flag: 0.2, block: 0.7"):
        rule = parsed(f"mail: {{detectors: [email], action: redact, {threshold}}}").rules[0]
        assert rule.block is not None
        assert rule.flag is None


@pytest.mark.parametrize(
    ("rules", "more", "message"),
    [
        ("hate: {block: 0.9, action: redact}", "", "'hate' cannot be redacted: a model judges"),
        ("hate: {words: [zzz], action: redact}", "", "move the patterns to a category"),
        ("own: {rubric: Rude words., action: redact}", "", "names no place"),
        ("m: {detectors: [email], action: redact, block: {fpr: 0.1}}", "", "no target to meet"),
        (
            "m: {detectors: [email], action: redact}",
            "input: {check: parallel}\n",
            "sends a request before 'm' can redact it; use 'before'",
        ),
        (
            "m: {words: [redacted], action: redact}",
            "",
            "placeholder '[REDACTED:m]' is matched by the patterns or words of 'm'",
        ),
        ("m: {detectors: [email], action: redact, placeholder: 'a\"b'}", "", "placeholder"),
    ],
)
def test_what_cannot_be_redacted_is_refused_with_the_fix(rules, more, message) -> None:
    with pytest.raises(PolicyError) as caught:
        parsed(rules, more)
    assert message in str(caught.value)


def test_parallel_checks_go_with_redacted_answers() -> None:
    policy = parsed(
        "m: {detectors: [email], action: redact, direction: output}", "input: {check: parallel}\n"
    )
    assert policy.redacts(Direction.OUTPUT)
