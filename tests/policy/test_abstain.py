"""What `abstain:` may say, and what contradicts itself."""

from __future__ import annotations

import pytest

from guardrail.errors import PolicyError
from guardrail.policy import Abstain, OnAbstain, parse_policy
from guardrail.policy.lint import lint

GUARDS = (
    "guards: {big: {kind: openai_logprobs, url: 'http://127.0.0.1:1/v1', model: m}}\n"
    "categories: {hate: {flag: 0.3, block: 0.7, "
)


def parsed(rest: str):
    return parse_policy("version: 1\nname: t\ntimeout_ms: 9000\n" + GUARDS + rest + "}}\n")


def test_a_rule_says_what_abstaining_means() -> None:
    rule = parsed("abstain: {confidence: 0.9, action: escalate, guard: big}").rules[0]
    assert rule.abstain == Abstain(0.9, OnAbstain.ESCALATE, "big")
    assert not rule.resolved
    assert parsed("").rules[0].abstain is None


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("abstain: {confidence: 0.9}", "action"),
        ("abstain: {confidence: 0.4, action: review}", "confidence"),
        ("abstain: {confidence: 1, action: review}", "confidence"),
        ("abstain: {confidence: 0.9, action: ask}", "ask"),
        ("abstain: {confidence: 0.9, action: review}, review: [0.2, 0.4]", "remove one of the two"),
        ("abstain: {confidence: 0.9, action: escalate}", "'guard:' and 'action: escalate'"),
        ("abstain: {confidence: 0.9, action: flag, guard: big}", "'guard:' and 'action: escalate'"),
        ("abstain: {confidence: 0.9, action: escalate, guard: bit}", "did you mean 'big'"),
    ],
)
def test_a_contradiction_is_named_with_its_fix(rest: str, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        parsed(rest)


def test_blocking_needs_a_threshold_to_block_from() -> None:
    with pytest.raises(PolicyError, match="needs a 'block:' threshold"):
        parse_policy(
            "version: 1\nname: t\ncategories: "
            "{hate: {flag: 0.3, abstain: {confidence: 0.9, action: block}}}"
        )


def test_lint_counts_a_guard_that_abstaining_asks_as_used() -> None:
    used = lint(parsed("abstain: {confidence: 0.9, action: escalate, guard: big}"))
    assert not any("no rule escalates" in str(remark) for remark in used)
    assert any("no rule escalates" in str(remark) for remark in lint(parsed("")))
