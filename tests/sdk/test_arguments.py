"""Which argument is judged: whatever the signature, none passes unread."""

from __future__ import annotations

from typing import Any

import pytest
from openai import NOT_GIVEN

from guardrail import Guardrail, GuardrailBlocked, guard

EVIL = [{"role": "user", "content": "BAD"}]


def by_any_number(*messages: str) -> str:
    return "said"


def by_any_name(model: str, **input: Any) -> str:  # noqa: A002
    return "said"


@pytest.mark.parametrize("wanted", [None, "messages"])
def test_a_parameter_that_takes_any_number_of_arguments_is_refused_when_it_is_decorated(
    rail: Guardrail, wanted: str | None
) -> None:
    with pytest.raises(TypeError, match="pass input= "):
        guard(policy=rail, input=wanted)(by_any_number)


def test_a_parameter_that_takes_any_keyword_is_not_itself_the_input(rail: Guardrail) -> None:
    chat = guard(policy=rail)(by_any_name)
    for call in ({"model": "BAD"}, {"model": "m", "messages": EVIL}, {"model": "m", "input": EVIL}):
        with pytest.raises(GuardrailBlocked):
            chat(**call)
    with pytest.raises(TypeError, match="pass input= "):
        guard(policy=rail, input="input")(by_any_name)


def test_an_input_that_is_named_and_not_in_the_call_is_refused_not_skipped(rail: Guardrail) -> None:
    @guard(policy=rail, input="messages")
    def chat(*args: Any, **kwargs: Any) -> str:
        return "said"

    with pytest.raises(GuardrailBlocked):
        chat(messages=EVIL)
    with pytest.raises(TypeError, match="no 'messages'"):
        chat(EVIL)


def test_of_several_possible_inputs_none_is_left_unread_without_a_word(rail: Guardrail) -> None:
    def both(messages: object, question: str) -> str:
        return "said"

    with pytest.raises(
        TypeError, match=r"both\(\) has 'messages' and 'question'.*input='messages'"
    ):
        guard(policy=rail)(both)
    with pytest.raises(GuardrailBlocked):
        guard(policy=rail, input="question")(both)([], "BAD")
    with pytest.raises(GuardrailBlocked):
        guard(policy=rail, input=lambda messages, question: f"{messages}\n{question}")(both)(
            "BAD", ""
        )


def test_several_possible_inputs_of_a_call_are_refused_settings_are_not(rail: Guardrail) -> None:
    @guard(policy=rail)
    def some(prompt: str = "", **settings: Any) -> str:
        return "said"

    @guard(policy=rail)
    def any_name(**settings: Any) -> str:
        return "said"

    for call in (
        lambda: some("hello", messages=EVIL),
        lambda: some(messages=EVIL),
        lambda: any_name(messages=EVIL, input="BAD"),
    ):
        with pytest.raises(TypeError, match="each of which could be the input"):
            call()
    settings: dict[str, Any] = {"text": {"format": {"type": "text"}}}
    assert some("hello", **settings) == "said"
    assert any_name(input="hello", **settings) == "said"
    assert any_name(messages=[], prompt=None) == any_name(messages=[], prompt=NOT_GIVEN) == "said"
    with pytest.raises(GuardrailBlocked):
        any_name(input="BAD", **settings)


def test_a_call_without_its_input_is_the_functions_own_affair(rail: Guardrail) -> None:
    @guard(policy=rail, input="prompt")
    def chat(prompt: str | None = None, *, text: str) -> str:
        return text

    assert chat(text="fine") == chat(None, text="fine") == "fine"
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument"):
        chat("hi")  # type: ignore[call-arg]
