"""LiteLLM's Generic Guardrail API: what is read from a question, and what is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardrail.errors import WireError
from guardrail.types import ChannelKind, Direction, Role
from guardrail.wire import litellm_api
from guardrail.wire.litellm_api import read_litellm, write_litellm


def ask(**fields: Any) -> bytes:
    return json.dumps({"input_type": "request", **fields}).encode()


def test_structured_messages_say_who_speaks() -> None:
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {"role": "tool", "content": "result", "tool_call_id": "1"},
    ]
    question = read_litellm(ask(texts=["be kind", "hi"], structured_messages=messages))
    assert question.direction is Direction.INPUT
    assert [(s.role, s.text) for s in question.segments] == [
        (Role.SYSTEM, "be kind"),
        (Role.USER, "hi"),
        (Role.TOOL, "result"),
    ]


def test_texts_that_no_message_contains_are_judged_as_the_users() -> None:
    messages = [{"role": "user", "content": "hi"}]
    question = read_litellm(ask(texts=["hi", "hidden"], structured_messages=messages))
    assert [(s.role, s.text) for s in question.segments][-1] == (Role.USER, "hidden")


@pytest.mark.parametrize("messages", [None, [], [{"role": 3}], "x"])
def test_without_readable_messages_the_texts_are_judged(messages: Any) -> None:
    question = read_litellm(ask(texts=["one", "two"], structured_messages=messages))
    assert [s.text for s in question.segments] == ["one", "two"]


def test_a_text_that_is_part_of_a_message_is_not_judged_twice() -> None:
    messages = [{"role": "user", "content": "hi there"}, {"role": "system", "content": "be kind"}]
    question = read_litellm(ask(texts=["there", "be", "therebe"], structured_messages=messages))
    assert [s.text for s in question.segments] == ["hi there", "be kind", "therebe"]


def test_what_is_searched_for_parts_is_bounded_and_the_rest_is_judged(monkeypatch) -> None:
    monkeypatch.setattr(litellm_api, "MAX_SEARCHED_CHARS", 250)
    messages = [{"role": "user", "content": "x" * 94 + "a b c "}, {"role": "user", "content": "hi"}]
    texts = ["a", "b", "c", "hi"]  # two searches are within the bound, and a whole message is free
    question = read_litellm(ask(texts=texts, structured_messages=messages))
    assert [s.text for s in question.segments][2:] == ["c"]


def test_an_answers_texts_and_tool_calls_are_the_assistants() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]
    body = json.dumps({"input_type": "response", "texts": ["yes"], "tool_calls": calls}).encode()
    question = read_litellm(body)
    assert question.direction is Direction.OUTPUT
    assert [(s.role, s.text) for s in question.segments] == [
        (Role.ASSISTANT, "yes"),
        (Role.ASSISTANT, '{"a": 1}'),
    ]
    assert question.segments[1].channel.kind is ChannelKind.TOOL_ARGUMENTS


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "input_type"),
        (ask(input_type="both"), "input_type"),
        (ask(texts="x"), "texts"),
        (ask(texts=[1]), "texts"),
        (ask(texts=["x"] * 5000), "texts"),
        (ask(input_type="response", tool_calls={}), "tool_calls"),
    ],
)
def test_a_malformed_question_names_the_field(body: bytes, param: str) -> None:
    with pytest.raises(WireError) as caught:
        read_litellm(body)
    assert caught.value.param == param


def test_the_answer_is_none_or_blocked() -> None:
    assert json.loads(write_litellm(None)) == {"action": "NONE"}
    assert json.loads(write_litellm("no")) == {"action": "BLOCKED", "blocked_reason": "no"}


CALLS = [
    {"type": "function", "function": {"name": "a named BAD", "arguments": {"a": "BAD"}}},
    {"type": "custom", "custom": {"name": "f", "input": "BAD input"}},
]


@pytest.mark.parametrize("kind", ["request", "response"])
@pytest.mark.parametrize("messages", [None, [], [{"Role": "user"}]])
def test_tool_calls_are_judged_in_every_form_and_without_messages(kind: str, messages: Any) -> None:
    question = read_litellm(ask(input_type=kind, tool_calls=CALLS, structured_messages=messages))
    said = [segment.text for segment in question.segments]
    assert said == ["a named BAD", '{"a":"BAD"}', "BAD input"]
    assert {segment.role for segment in question.segments} == {Role.ASSISTANT}


def test_tool_calls_that_the_messages_have_are_judged_once() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": CALLS}]
    question = read_litellm(ask(texts=["hi"], structured_messages=messages, tool_calls=CALLS))
    assert [s.text for s in question.segments].count("BAD input") == 1


def test_tools_are_judged_without_messages() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "does BAD things"}}]
    question = read_litellm(ask(texts=["hi"], structured_messages=None, tools=tools))
    found = [(s.role, s.text) for s in question.segments]
    assert found == [(Role.SYSTEM, "does BAD things"), (Role.USER, "hi")]


@pytest.mark.parametrize("text", ["does BAD things", "BAD"])
def test_no_text_hides_behind_a_tool_that_may_be_out_of_scope(text: str) -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "does BAD things"}}]
    messages = [{"role": "user", "content": "hi"}]
    question = read_litellm(ask(texts=["hi", text], structured_messages=messages, tools=tools))
    assert (Role.USER, text) in [(s.role, s.text) for s in question.segments]


def test_no_call_hides_behind_a_tool_that_may_be_out_of_scope() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "BAD input"}}]
    messages = [{"role": "user", "content": "hi"}]
    question = read_litellm(ask(structured_messages=messages, tools=tools, tool_calls=CALLS))
    assert (Role.ASSISTANT, "BAD input") in [(s.role, s.text) for s in question.segments]
