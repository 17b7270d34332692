"""What `guards:` and `escalate:` of a policy promise."""

from __future__ import annotations

import dataclasses

import pytest

from guardrail.errors import PolicyError
from guardrail.policy import Combine, Escalate, GuardKind, GuardSpec, parse_policy
from guardrail.policy.guards import GUARDS_SCHEMA
from guardrail.policy.lint import lint

HEAD = "version: 1\nname: t\n"
BIG = "guards: {big: {kind: openai_logprobs, url: 'http://127.0.0.1:1/v1', model: m}}\n"
RULE = "categories: {hate: {block: 0.6, escalate: {band: [0.3, 0.8], guard: big}}}"


def refusal(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        parse_policy(HEAD + text)
    assert caught.value.line is not None
    return str(caught.value)


def test_a_rule_names_its_band_and_its_guard() -> None:
    policy = parse_policy(HEAD + BIG + RULE)
    assert policy.rules[0].escalate == Escalate(0.3, 0.8, "big")
    spec = policy.guards["big"]
    assert (spec.kind, spec.timeout_ms, spec.probe) == (GuardKind.OPENAI_LOGPROBS, 2000, True)
    assert spec.combine is Combine.REPLACE
    assert spec.platt("hate") == (1.0, 0.0)


def test_a_calibration_is_that_of_the_category_or_of_all() -> None:
    text = BIG.replace("model: m", "model: m, calibration: {hate: [2, 1], all: [0.5, 0]}")
    spec = parse_policy(HEAD + text + RULE).guards["big"]
    assert (spec.platt("hate"), spec.platt("drugs")) == ((2, 1), (0.5, 0))


def test_the_guard_and_the_band_are_part_of_the_policy_s_version() -> None:
    texts = [BIG + RULE, BIG + RULE.replace("0.8", "0.7"), BIG.replace("m}", "n}") + RULE]
    assert len({parse_policy(HEAD + text).content_hash for text in texts}) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BIG + RULE.replace("big}", "bog}"), "did you mean 'big'"),
        (RULE, "name it under 'guards:'"),
        (BIG + RULE.replace("[0.3, 0.8]", "[0.8, 0.3]"), "is empty"),
        (BIG.replace(", model: m", "") + RULE, "lacks 'model:'"),
        (BIG.replace("openai_logprobs", "openai_logprob") + RULE, "did you mean 'openai_logprobs'"),
        (BIG.replace("model: m", "model: m, votes: 3") + RULE, "has no 'votes:'"),
        (BIG.replace("http:", "ftp:") + RULE, "not an http(s) URL"),
        (BIG.replace("http://", "http://me:secret@") + RULE, "key_env"),
        (BIG.replace("/v1", "/v1?key=secret") + RULE, "leave out"),
        (BIG.replace("http://127.0.0.1:1", "http://127.0.0.1:99999999") + RULE, "not an http"),
        (BIG.replace("model: m", "model: m, timeout_ms: 10000") + RULE, "10000 ms"),
        (BIG.replace("model: m", "model: m, calibration: {all: [0, 1]}") + RULE, "slope"),
        (BIG.replace("model: m", "model: m, api_key: x") + RULE, "unknown key 'api_key'"),
        (BIG.replace("model: m", "model: m, timeout_ms: 0") + RULE, "the least is 1"),
        ("guards: {g: {kind: local}}\n" + RULE, "lacks 'model:'"),
        ("guards: {g: {model: x}}\n" + RULE, "lacks 'kind:'"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_fix(text: str, words: str) -> None:
    message = refusal(text)
    assert words in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BIG + "categories: {hate: {block: 0.5}}", "no rule escalates to it"),
        (BIG + RULE, "not calibrated"),
        ("guards: {big: {kind: local, model: 'hf:some/model'}}\n" + RULE, "not calibrated"),
        ("guards: {big: {kind: local, model: 'guard:shieldgemma=x'}}\n" + RULE, "not calibrated"),
        (BIG + RULE.replace("[0.3", "[0"), "begins at 0"),
        (BIG + RULE.replace("block: 0.6", "action: pass"), "changes nothing"),
        (
            BIG + "categories: {own: {block: 1, words: [acme], "
            "escalate: {band: [0.1, 0.9], guard: big}}}",
            "give 0 or 1",
        ),
        (
            BIG.replace("127.0.0.1", "guard.example").replace("m}", "m, key_env: K}") + RULE,
            "plain http",
        ),
    ],
)
def test_lint_finds_bands_that_nothing_reaches_and_guards_that_cannot_help(text, words) -> None:
    assert words in "\n".join(map(str, lint(parse_policy(HEAD + text))))


def test_lint_leaves_a_sound_guard_alone() -> None:
    text = BIG.replace("model: m", "model: m, calibration: {all: [1, 0]}") + RULE
    assert not lint(parse_policy(HEAD + text))
    assert not lint(parse_policy(HEAD + "guards: {big: {kind: local, model: m}}\n" + RULE))


def test_the_schema_names_every_field_of_a_guard() -> None:
    fields = {f.name for f in dataclasses.fields(GuardSpec)} - {"name"}
    assert set(GUARDS_SCHEMA["additionalProperties"]["properties"]) == fields
