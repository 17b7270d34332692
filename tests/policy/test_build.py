"""What the language of a category promises: rubrics, matchers, targets, messages, channels."""

from __future__ import annotations

import pytest

from guardrail.errors import PolicyError
from guardrail.policy import Detector, Measure, Target, parse_policy
from guardrail.types import ChannelKind

HEAD = "version: 1\nname: t\ncategories:\n"


def rule(body: str, key: str = "hate"):
    found = parse_policy(f"{HEAD}  {key}: {body}").rule(key)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("line", "body", "words"),
    [
        (4, "rivals: {flag: 0.5}", "unknown category 'rivals'"),
        (4, "hate: {rubric: x, flag: 0.5}", "has its definition"),
        (4, "rivals: {rubrik: x, flag: 0.5}", "did you mean 'rubric'"),
        (4, "rivals: {rubric: '', flag: 0.5}", "is empty"),
        (4, "hate: {flag: {fpr: 0.1, recall: 0.5}}", "names one of"),
        (4, "hate: {flag: {confidence: 0.9}}", "names one of"),
        (4, "hate: {flag: {fprr: 0.1}}", "did you mean 'fpr'"),
        (4, "hate: {flag: {fpr: 0}}", "use more than 0"),
        (4, "hate: {flag: {fpr: 1}}", "use less than 1"),
        (4, "hate: {flag: 1, words: [' ']}", "blank"),
        (4, "hate: {flag: 1, patterns: ['(a']}", "cannot be compiled: missing )"),
        (4, "hate: {flag: 1, patterns: ['(?=a)b']}", "look-around"),
        (4, "hate: {flag: 1, patterns: ['(a)\\1']}", "cannot be compiled"),
        (4, "hate: {flag: 1, patterns: ['(((a{100}){100}){100}){9}']}", "cannot be compiled"),
        (4, "hate: {flag: 1, detectors: [emial]}", "did you mean 'email'"),
        (4, "Hate: {flag: 1}", "lower-case letters"),
        (4, "hate: {flag: 1, message: {DE_de: nein}}", "a language tag"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_fix(line, body, words) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(f"{HEAD}  {body}")
    assert words in str(caught.value)
    assert caught.value.line == line


def test_a_category_of_ones_own_keeps_all_that_was_said_of_it() -> None:
    own = rule(
        "{rubric: Praises a rival, flag: 0.5, words: [Acme], patterns: ['ac+me'], "
        "detectors: [pii, url], examples: {violates: [a, b], allowed: [c]}}",
        "rivals",
    )
    assert own.rubric == "Praises a rival"
    assert own.examples.violates == ("a", "b")
    assert own.examples.allowed == ("c",)
    assert own.matchers.words == ("Acme",)
    assert Detector.URL in own.matchers.detectors
    assert Detector.IBAN in own.matchers.detectors
    assert Detector.SECRETS not in own.matchers.detectors


def test_a_threshold_may_be_a_target_and_is_then_not_resolved_yet() -> None:
    found = rule("{flag: {fpr: 0.01}, block: {precision: 0.95, confidence: 0.9}}")
    assert found.flag is None
    assert found.block is None
    assert found.flag_target == Target(Measure.FPR, 0.01, 0.95)
    assert found.block_target == Target(Measure.PRECISION, 0.95, 0.9)
    assert str(found.flag_target) == "fpr <= 0.01 at 95% confidence"
    assert not found.resolved
    assert rule("{flag: 0.5}").resolved


def test_messages_are_told_in_the_reader_s_language_where_there_is_one() -> None:
    policy = parse_policy(
        "version: 1\nname: t\nmessage: {de: Nein, en: No}\n"
        "categories: {hate: {block: 1, message: {fr: Non, pt-br: Não}}, drugs: {block: 1}}"
    )
    assert policy.message_for(["drugs"]) == "No"
    assert policy.message_for(["drugs"], ["de-AT", "en"]) == "Nein"
    assert policy.message_for(["hate", "drugs"], ["pt-BR"]) == "Não"
    assert policy.message_for(["hate"], ["xx"]) == "Non"


def test_channels_are_all_kinds_unless_some_are_named() -> None:
    assert rule("{flag: 1}").channels == frozenset(ChannelKind)
    assert rule("{flag: 1, channels: [tool_result]}").channels == {ChannelKind.TOOL_RESULT}
