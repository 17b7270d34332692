"""The local moderation endpoint speaks OpenAI's shape, with our categories beside its own."""

from __future__ import annotations

import json

import pytest

from guardrail.errors import WireError
from guardrail.taxonomy import CATEGORIES, OPENAI_MODERATION
from guardrail.types import UNSAFE, Scores
from guardrail.wire import Reply
from guardrail.wire.moderations import ModerationResult, read_moderation, write_moderation
from tests.wire.sdk import call


def result(flagged: set[str], **scores: float) -> ModerationResult:
    return ModerationResult(Scores(scores), frozenset(flagged))


def test_a_string_and_a_list_of_strings_have_a_result_each() -> None:
    one = read_moderation(b'{"input":"a","model":"omni-moderation-latest"}')
    assert [i.text for i in one.inputs] == ["a"]
    assert one.model == "omni-moderation-latest"
    assert [i.text for i in read_moderation(b'{"input":["a","b"]}').inputs] == ["a", "b"]


def test_parts_have_one_result_together_and_images_are_skipped() -> None:
    body = {
        "input": [
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "https://x"}},
            {"type": "text", "text": "b"},
        ]
    }
    request = read_moderation(json.dumps(body).encode())
    assert [i.text for i in request.inputs] == ["a\nb"]
    assert request.skipped == ("input[1]: image_url",)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "input"),
        (b'{"input":[]}', "input"),
        (b'{"input":7}', "input"),
        (b'{"input":["a",{"type":"text","text":"b"}]}', "input[0]"),
        (b'{"input":[{"type":"text"}]}', "input[0].text"),
        (b'{"input":[{"type":"sound"}]}', "input[0].type"),
        (b'{"input":"a","model":7}', "model"),
        (b'{"input":"a","Input":"b"}', "input"),
        (json.dumps({"input": ["a"] * 1025}).encode(), "input"),
    ],
)
def test_a_wrong_field_is_named(body: bytes, param: str) -> None:
    with pytest.raises(WireError) as caught:
        read_moderation(body)
    assert caught.value.param == param


def test_the_sdk_reads_all_thirteen_names() -> None:
    body = write_moderation([result({"hate"}, hate=0.9, self_harm=0.2)], id="modr-1", model="m")
    answer = call("openai.moderations", Reply(200, body)).results[0]
    assert answer.flagged
    assert answer.categories.hate
    assert not answer.categories.self_harm_intent
    assert answer.category_scores.self_harm_intent == 0.2
    assert answer.category_applied_input_types.violence == ["text"]
    assert len(json.loads(body)["results"][0]["categories"]) == len(OPENAI_MODERATION) + 3


def test_our_keys_ids_and_custom_categories_stand_beside_them() -> None:
    scores = dict.fromkeys(CATEGORIES, 0.1) | {UNSAFE: 0.7, "acme_secrets": 0.8, "privacy": 0.6}
    body = write_moderation([result({"acme_secrets"}, **scores)], id="modr-1", model="m")
    answer = json.loads(body)["results"][0]
    assert answer["flagged"]
    assert answer["category_scores"]["privacy"] == answer["category_scores"]["S7"] == 0.6
    assert answer["category_scores"]["acme_secrets"] == 0.8
    assert answer["categories"]["acme_secrets"]
    assert {f"S{n}" for n in range(1, 15)} <= set(answer["categories"])
    assert UNSAFE not in answer["categories"]
    assert set(answer["categories"]) == set(answer["category_scores"])
    assert set(answer["categories"]) == set(answer["category_applied_input_types"])


def test_a_threat_needs_both_its_conditions() -> None:
    def threat(**scores: float) -> tuple[float, bool]:
        body = write_moderation([result(set(scores), **scores)], id="i", model="m")
        answer = json.loads(body)["results"][0]
        return answer["category_scores"]["hate/threatening"], answer["categories"][
            "hate/threatening"
        ]

    assert threat(hate=0.9) == (0.0, False)
    assert threat(hate=0.9, violent_crimes=0.4) == (0.4, True)


def test_only_the_overall_head_may_flag() -> None:
    body = write_moderation([result({UNSAFE}, unsafe=0.9)], id="i", model="m")
    assert json.loads(body)["results"][0]["flagged"]
