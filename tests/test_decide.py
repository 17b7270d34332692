"""What `decide` promises."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.decide import decide, decide_failure, decide_skipped, undecided, worst
from guardrail.policy import Policy, parse_policy
from guardrail.types import (
    Action,
    ChannelKind,
    Coverage,
    Direction,
    Escalation,
    Evidence,
    Outcome,
    Role,
    Scores,
    Stage,
    Verdict,
)

POLICY = parse_policy(
    """
version: 1
name: t
categories:
  hate: {flag: 0.5, block: 0.8}
  drugs: {flag: 0.5, action: flag}
  privacy: {direction: output, block: 0.5}
  jailbreak: {direction: input, roles: [user], block: 0.5}
  elections: {flag: 0.4, block: 0.9, review: [0.3, 0.6]}
"""
)
SAFE = {"hate": 0.0, "drugs": 0.0, "privacy": 0.0, "jailbreak": 0.0, "elections": 0.0}


def scores(**changes: float) -> Scores:
    return Scores({**SAFE, **changes}, "m@1", Coverage(10, 10, 3, 1))


def on_input(policy: Policy = POLICY, role: Role = Role.USER, **changes: float):
    return decide(policy, Direction.INPUT, role, scores(**changes))


@pytest.mark.parametrize(
    ("probability", "action"),
    [(0.49, Action.PASS), (0.5, Action.FLAG), (0.79, Action.FLAG), (0.8, Action.BLOCK)],
)
def test_a_probability_equal_to_a_threshold_crosses_it(probability, action) -> None:
    assert on_input(hate=probability).action is action


def test_an_action_is_the_most_that_a_rule_may_do() -> None:
    assert on_input(drugs=1.0).action is Action.FLAG


def test_a_rule_of_the_other_direction_does_not_apply() -> None:
    assert on_input(privacy=1.0).action is Action.PASS
    assert decide(POLICY, Direction.OUTPUT, Role.ASSISTANT, scores(privacy=1.0)).blocked


def test_a_rule_of_another_role_does_not_apply() -> None:
    assert on_input(jailbreak=1.0).blocked
    assert on_input(role=Role.TOOL, jailbreak=1.0).action is Action.PASS


def test_a_review_band_asks_a_person_whatever_the_action() -> None:
    below, inside = on_input(elections=0.35), on_input(elections=0.5)
    assert (below.action, below.findings[0].review) == (Action.PASS, True)
    assert (inside.action, inside.findings[0].review) == (Action.FLAG, True)
    assert not on_input(elections=0.95).findings[0].review


def test_findings_come_most_severe_and_likely_first() -> None:
    verdict = on_input(drugs=0.99, hate=0.85, elections=0.95)
    assert [f.category for f in verdict.findings] == ["elections", "hate", "drugs"]
    assert verdict.categories == ("elections", "hate")


def test_blocking_rules_fail_closed_and_flagging_rules_open() -> None:
    verdict = decide_failure(POLICY, Direction.INPUT, Role.USER, "timeout")
    assert verdict.blocked
    assert verdict.outcome is Outcome.FAILED
    assert {f.category for f in verdict.findings} == {"hate", "jailbreak", "elections"}
    assert {f.reason for f in verdict.findings} == {"timeout"}


def test_the_failure_mode_of_a_rule_overrides_that_of_the_policy() -> None:
    policy = parse_policy(
        "version: 1\nname: t\nfailure: {block: open, flag: closed}\n"
        "categories: {hate: {block: 0.5}, drugs: {flag: 0.5}, privacy: {block: 1, failure: closed}}"
    )
    verdict = decide_failure(policy, Direction.INPUT, Role.USER, "failure")
    assert [f.category for f in verdict.findings] == ["privacy", "drugs"]


def test_text_that_was_not_covered_is_a_failed_check() -> None:
    cut = Scores(SAFE, "m@1", Coverage(5, 10, 3, 1))
    verdict = decide(POLICY, Direction.INPUT, Role.USER, cut)
    assert verdict.blocked
    assert verdict.outcome is Outcome.TRUNCATED


def test_a_category_that_the_model_cannot_score_is_a_failed_check() -> None:
    verdict = decide(POLICY, Direction.INPUT, Role.USER, Scores({"drugs": 0.0}, "m@1"))
    assert verdict.blocked
    assert "no_score" in {f.reason for f in verdict.findings}


def test_a_probability_that_is_no_number_is_a_failed_check() -> None:
    verdict = on_input(hate=math.nan)
    assert verdict.blocked
    assert [(f.category, f.reason) for f in verdict.findings] == [("hate", "no_score")]


def test_a_monitored_policy_says_what_would_have_happened_and_does_nothing() -> None:
    policy = parse_policy("version: 1\nname: t\nmode: monitor\ncategories: {hate: {block: 0.5}}")
    verdict = on_input(policy, hate=0.9)
    assert (verdict.action, verdict.effective) == (Action.BLOCK, Action.PASS)
    assert not verdict.blocked


def test_what_no_rule_looks_at_passes_and_is_said_to_be_unscanned() -> None:
    verdict = decide_skipped(POLICY, Direction.INPUT)
    assert (verdict.action, verdict.outcome) == (Action.PASS, Outcome.SKIPPED)


def test_the_worst_of_several_verdicts_is_the_most_severe() -> None:
    verdicts = [on_input(), on_input(hate=0.9), on_input(hate=0.6), on_input(hate=0.95)]
    assert worst(verdicts) is verdicts[3]


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_probability_never_leads_to_a_milder_action(one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert on_input(hate=low).action.severity <= on_input(hate=high).action.severity


def test_every_verdict_carries_policy_and_model() -> None:
    verdict = on_input()
    assert verdict.policy == POLICY.identity
    assert verdict.scores.model == "m@1"


def test_a_rule_of_another_kind_of_text_does_not_apply() -> None:
    policy = parse_policy(
        "version: 1\nname: t\ncategories: {hate: {block: 0.5, channels: [tool_result]}}"
    )
    for kind, action in ((ChannelKind.TOOL_RESULT, Action.BLOCK), (ChannelKind.TEXT, Action.PASS)):
        verdict = decide(policy, Direction.INPUT, Role.TOOL, scores(hate=1.0), kind)
        assert verdict.action is action
    failed = decide_failure(policy, Direction.INPUT, Role.TOOL, "timeout", "", ChannelKind.TEXT)
    assert failed.action is Action.PASS


def test_a_target_that_was_never_resolved_is_a_failed_check() -> None:
    policy = parse_policy(
        "version: 1\nname: t\ncategories: {hate: {flag: 0.5, block: {precision: 0.9}}}"
    )
    verdict = on_input(policy, hate=0.0)
    assert (verdict.action, verdict.findings[0].reason) == (Action.BLOCK, "unresolved")


def test_a_match_is_given_as_the_reason() -> None:
    seen = Scores({**SAFE, "hate": 1.0}, "m", Coverage(), (Evidence("hate", "word", "list"),))
    verdict = decide(POLICY, Direction.INPUT, Role.USER, seen)
    assert verdict.findings[0].reason == "word"


CASCADE = parse_policy(
    """
version: 1
name: cascade
guards: {big: {kind: moderations, url: "http://127.0.0.1:1/v1"}}
categories:
  hate: {block: 0.6, review: [0.2, 0.3], escalate: {band: [0.3, 0.8], guard: big}}
  drugs: {flag: 0.5, escalate: {band: [0.3, 0.8], guard: big}}
  privacy: {block: 0.9}
"""
)


def undecided_on(**values: float) -> list[str]:
    scores = Scores({"hate": 0.0, "drugs": 0.0, "privacy": 0.0, **values})
    found = undecided(CASCADE, Direction.INPUT, Role.USER, scores)
    return [rule.category for rule in found]


def test_a_guard_is_asked_only_about_what_lies_in_the_band() -> None:
    assert undecided_on(hate=0.3, drugs=0.29) == ["hate"]
    assert undecided_on(hate=0.8, drugs=0.79) == []  # hate blocks whatever the guard says
    assert undecided_on(hate=0.79, drugs=0.5) == ["hate", "drugs"]
    assert undecided_on(hate=0.5, privacy=0.95) == []
    cut = Scores({"hate": 0.5}, coverage=Coverage(1, 2))
    assert undecided(CASCADE, Direction.INPUT, Role.USER, cut) == ()


def escalated(category: str, after: float | None, before: float = 0.7) -> Verdict:
    asked = Escalation(category, "big", before, after, reason="" if after else "timeout")
    values = {"hate": 0.0, "drugs": 0.0, "privacy": 0.0, category: after or before}
    scores = Scores(values, escalations=(asked,))
    return decide(CASCADE, Direction.INPUT, Role.USER, scores)


def test_a_verdict_says_which_stage_and_guard_decided() -> None:
    blocked, cleared = escalated("hate", 0.9), escalated("hate", 0.1)
    assert (blocked.action, blocked.stage, blocked.guard) == (Action.BLOCK, Stage.GUARD, "big")
    assert (cleared.action, cleared.stage, cleared.guard) == (Action.PASS, Stage.GUARD, "big")
    assert decide(CASCADE, Direction.INPUT, Role.USER, Scores({"hate": 1.0})).stage is Stage.MODEL


def test_without_its_guard_a_closed_rule_blocks_and_an_open_one_keeps_the_small_model() -> None:
    closed, opened = escalated("hate", None), escalated("drugs", None)
    assert (closed.action, closed.findings[0].reason) == (Action.BLOCK, "guard_timeout")
    assert (closed.stage, closed.guard) == (Stage.FAILURE, "big")
    below = escalated("hate", None, before=0.4)
    assert below.blocked
    assert (opened.action, opened.findings[0].reason) == (Action.FLAG, "threshold")
    assert escalated("drugs", None, before=0.4).action is Action.PASS


def test_review_comes_after_the_guard_and_gives_its_reason() -> None:
    verdict = escalated("hate", 0.25)
    assert verdict.review
    assert verdict.review_reasons == ("hate: 0.250 by big is in the review band",)
    assert not escalated("hate", 0.1).review


def test_what_cannot_be_read_fails_every_rule_whatever_kind_of_text_it_is_for() -> None:
    policy = parse_policy(
        "version: 1\nname: t\ncategories: {unsafe: {block: 0.5, channels: [tool_arguments]}}"
    )
    for way, role in ((Direction.INPUT, Role.TEXT), (Direction.OUTPUT, Role.ASSISTANT)):
        assert decide_failure(policy, way, role, "unreadable").blocked
        kind = ChannelKind.TEXT
        assert not decide_failure(policy, way, role, "timeout", kind=kind).blocked
