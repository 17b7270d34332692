"""The LangChain runnable and middleware, with LangChain's own fake models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("langchain.agents", reason="needs the extra `integrations`")

from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from guardrail import Guardrail, GuardrailBlocked
from guardrail.sdk.adapters import read_content
from guardrail.sdk.langchain import GuardrailMiddleware, guarded
from tests.conftest import MarkerClassifier

LONG = "the quick brown fox jumps over the lazy dog and runs on and on " * 4


def model(*texts: str) -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter([AIMessage(content=text) for text in texts]))


def test_a_runnable_passes_and_blocks(rail: Guardrail) -> None:
    safe = guarded(model("fine", "BAD"), policy=rail)
    assert safe.invoke("hi").content == "fine"
    with pytest.raises(GuardrailBlocked):
        safe.invoke("hi")
    with pytest.raises(GuardrailBlocked):
        safe.invoke([HumanMessage("BAD")])


def test_a_chain_around_a_guarded_model_gets_the_policys_message(rail: Guardrail) -> None:
    prompt = ChatPromptTemplate.from_messages([("human", "{ask}")])
    chain = prompt | guarded(model("BAD"), policy=rail, on_block="message") | StrOutputParser()
    assert chain.invoke({"ask": "BAD"}) == "no way"
    assert chain.invoke({"ask": "hi"}) == "no way"


def test_a_stream_is_cut_before_the_harm(rail: Guardrail) -> None:
    bound = guarded(model(f"{LONG} BAD {LONG}"), policy=rail, on_block="message")
    text = "".join(str(chunk.content) for chunk in bound.stream("hi"))
    assert text.endswith("no way")
    assert "BAD" not in text


async def test_the_async_forms_do_the_same(rail: Guardrail) -> None:
    bound = guarded(model("BAD", LONG), policy=rail, on_block="message")
    assert (await bound.ainvoke("hi")).content == "no way"
    text = "".join([str(chunk.content) async for chunk in bound.astream("hi")])
    assert text == LONG


def test_an_agent_ends_with_the_policys_message(rail: Guardrail) -> None:
    agent = create_agent(model("BAD", "fine"), middleware=[GuardrailMiddleware(rail)])

    def say(text: str) -> list[str]:
        result = agent.invoke({"messages": [HumanMessage(text)]})
        return [str(message.content) for message in result["messages"]]

    assert say("hi") == ["hi", "no way"]  # the blocked answer is replaced, not followed
    assert say("BAD") == ["BAD", "no way"]
    assert say("hi") == ["hi", "fine"]


async def test_an_async_agent_can_raise(rail: Guardrail) -> None:
    guardrail = GuardrailMiddleware(rail, on_block="raise")
    agent = create_agent(model("BAD"), middleware=[guardrail])
    with pytest.raises(GuardrailBlocked):
        await agent.ainvoke({"messages": [HumanMessage("hi")]})


def test_an_answer_is_judged_with_the_question(rail: Guardrail, marker: MarkerClassifier) -> None:
    create_agent(model("fine"), middleware=[GuardrailMiddleware(rail)]).invoke(
        {"messages": [HumanMessage("a question")]}
    )
    assert marker.seen[-1].prompt == "a question"


BROKEN = {"name": "f", "args": '{"a": "BAD', "id": "1", "error": None, "type": "invalid_tool_call"}


def test_tool_arguments_that_are_no_json_are_judged_too(rail: Guardrail) -> None:
    fake = GenericFakeChatModel(messages=iter([AIMessage(content="", invalid_tool_calls=[BROKEN])]))
    with pytest.raises(GuardrailBlocked):
        guarded(fake, policy=rail).invoke("hi")
    sent = read_content([HumanMessage("hi"), AIMessage(content="", invalid_tool_calls=[BROKEN])])
    texts = [segment.text for segment in sent.segments]
    assert texts == ["hi", BROKEN["args"]]  # part of a history, too


@pytest.mark.parametrize("field", ["tool_call_chunks", "invalid_tool_calls"])
def test_streamed_tool_arguments_that_are_no_json_are_judged_once(
    rail: Guardrail, marker: MarkerClassifier, field: str
) -> None:
    call = {"name": "f", "args": "[a BAD one", "id": "1"}
    more = {"index": 0} if field == "tool_call_chunks" else {"error": None}
    chunk = AIMessageChunk(content="", **{field: [{**call, **more}]})
    bound = guarded(RunnableLambda(lambda _: chunk), policy=rail)
    with pytest.raises(GuardrailBlocked):
        list(bound.stream("hi"))
    assert [sample.text for sample in marker.seen if "BAD" in sample.text] == ["[a BAD one"]


def test_arguments_that_stream_in_a_block_of_their_own_as_well_are_judged_once(
    rail: Guardrail, marker: MarkerClassifier
) -> None:
    """Anthropic's deltas stand in the content and among the chunks of calls."""
    chunks = [
        AIMessageChunk(
            content=[{"type": "input_json_delta", "partial_json": part, "index": 1}],
            tool_call_chunks=[{"name": None, "args": part, "id": None, "index": 1}],
        )
        for part in ('{"command": "ls', ' -l"}')
    ]

    def said(_: object) -> Iterator[AIMessageChunk]:
        yield from chunks

    list(guarded(RunnableGenerator(said), policy=rail).stream("hi"))
    assert marker.seen[-1].text == '{"command": "ls -l"}'


SUMMARY = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "BAD"}]}
CODE = {"type": "code_interpreter_call", "code": "BAD", "outputs": []}
CITED = {"type": "text", "text": "fine", "annotations": [{"title": "BAD"}]}


@pytest.mark.parametrize(
    "message",
    [
        AIMessage(content=[SUMMARY]),
        AIMessage(content=[CODE]),
        AIMessage(content=[CITED]),
        AIMessage(content="", additional_kwargs={"refusal": "BAD"}),
        AIMessage(content="", additional_kwargs={"audio": {"id": "a", "transcript": "BAD"}}),
        AIMessage(content="", additional_kwargs={"function_call": {"arguments": "BAD"}}),
    ],
)
def test_all_that_a_message_says_is_judged(rail: Guardrail, message: AIMessage) -> None:
    with pytest.raises(GuardrailBlocked):
        guarded(GenericFakeChatModel(messages=iter([message])), policy=rail).invoke("hi")


def test_sound_and_seals_are_no_text(rail: Guardrail, marker: MarkerClassifier) -> None:
    sound = {"id": "a", "data": "BADBADBAD=", "transcript": "fine"}
    blocks = [{"type": "thinking", "thinking": "so", "signature": "BAD/BAD="}]
    message = AIMessage(content=blocks, additional_kwargs={"audio": sound})
    guarded(GenericFakeChatModel(messages=iter([message])), policy=rail).invoke("hi")
    assert marker.seen[-1].text == "sofine"
