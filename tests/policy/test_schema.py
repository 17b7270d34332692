"""What the policy types promise."""

from __future__ import annotations

import dataclasses

import jsonschema
import pytest

from guardrail.policy import SCHEMA, Mode, StreamPolicy, bundled, parse_policy
from guardrail.policy.schema import CATEGORY_KEYS
from guardrail.stream import StreamSettings
from guardrail.taxonomy import CATEGORIES, KEYS, OPENAI_AND, OPENAI_MODERATION, by_id
from guardrail.types import Action, Direction


def test_the_schema_is_a_valid_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_default_policy_names_all_mlcommons_hazards_and_the_issue_s_own() -> None:
    policy = bundled("default")
    rules = {rule.category: rule for rule in policy.rules}
    assert set(rules) == set(CATEGORY_KEYS)
    for key in (k for k, c in CATEGORIES.items() if c.id.startswith("S")):
        assert rules[key].flag is not None
    assert policy.mode is Mode.ENFORCE
    assert policy.may_block(Direction.INPUT)
    assert policy.may_block(Direction.OUTPUT)


def test_stream_fields_and_defaults_are_those_of_the_stream_room() -> None:
    ours = {f.name: f.default for f in dataclasses.fields(StreamPolicy)}
    theirs = {f.name: f.default for f in dataclasses.fields(StreamSettings)}
    assert {k: v for k, v in theirs.items() if k in ours} == ours


def test_a_flag_only_policy_may_not_block() -> None:
    policy = parse_policy("version: 1\nname: t\ncategories: {hate: {flag: 0.5}}")
    assert policy.rules[0].action is Action.FLAG
    assert not policy.may_block(Direction.OUTPUT)


def test_the_message_is_that_of_the_first_category_that_has_one() -> None:
    policy = parse_policy(
        "version: 1\nname: t\nmessage: no\n"
        "categories: {hate: {block: 1}, drugs: {block: 1, message: help}}"
    )
    assert policy.message_for(["hate", "drugs"]) == "help"
    assert policy.message_for(["hate"]) == "no"


def test_a_policy_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        bundled().name = "x"  # type: ignore[misc]


def test_the_taxonomy_has_s1_to_s14_and_a_key_for_every_moderation_name() -> None:
    ids = [c.id for c in CATEGORIES.values()]
    assert ids[:14] == [f"S{n}" for n in range(1, 15)]
    assert len(set(ids)) == len(ids) == 23
    assert len(OPENAI_MODERATION) == 13
    assert {k for keys in OPENAI_MODERATION.values() for k in keys} <= set(KEYS)
    assert set(OPENAI_AND) <= set(OPENAI_MODERATION)
    assert by_id("s10") is CATEGORIES["hate"]
    assert by_id("S99") is None
