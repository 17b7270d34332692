"""The official clients against a real llama.cpp server, guarded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import anthropic
import openai
import pytest

from guardrail import Guardrail, GuardrailBlocked, guard_client
from guardrail.policy import Policy, parse_policy
from guardrail.types import Verdict
from tests.conftest import MarkerClassifier

pytestmark = pytest.mark.real
ASK = [{"role": "user", "content": "Say hello."}]
EVIL = [{"role": "user", "content": "BAD idea"}]
CLAUDE = {"model": "smollm2", "max_tokens": 8, "extra_body": {"temperature": 0}}
LIMIT = {"model": "smollm2", "max_tokens": 12, "temperature": 0.0}


@pytest.fixture
def client(llama_url: str, rail: Guardrail) -> Iterator[openai.OpenAI]:
    plain = openai.OpenAI(base_url=f"{llama_url}/v1", api_key="x", max_retries=1)
    with guard_client(plain, policy=rail) as guarded:
        yield guarded


def test_an_answer_has_the_clients_own_type(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(messages=ASK, **LIMIT)
    assert isinstance(client, openai.OpenAI)
    assert type(answer).__name__ == "ChatCompletion"
    assert answer.choices[0].message.content


def test_a_blocked_request_raises_at_once_and_never_reaches_the_server(
    client: openai.OpenAI, marker: MarkerClassifier
) -> None:
    with pytest.raises(GuardrailBlocked) as caught:
        client.chat.completions.create(messages=EVIL, **LIMIT)
    assert caught.value.verdict.categories == ("unsafe",)
    assert len(marker.seen) == 1  # no retry


def test_token_numbers_that_nobody_can_read_are_a_failed_check(client: openai.OpenAI) -> None:
    with pytest.raises(GuardrailBlocked) as caught:
        client.completions.create(prompt=[1, 2, 3], **LIMIT)
    assert caught.value.verdict.findings[0].reason == "unreadable"


@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_request_can_be_answered_with_the_policys_message(
    llama_url: str, rail: Guardrail, stream: bool
) -> None:
    plain = openai.OpenAI(base_url=f"{llama_url}/v1", api_key="x")
    client = guard_client(plain, policy=rail, on_block="message")
    answer = client.chat.completions.create(messages=EVIL, stream=stream, **LIMIT)
    if stream:
        chunks = list(answer)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        finish = chunks[-1].choices[0].finish_reason
    else:
        text, finish = answer.choices[0].message.content, answer.choices[0].finish_reason
    assert (text, finish) == ("no way", "content_filter")


def test_a_stream_says_what_the_unguarded_client_says(
    client: openai.OpenAI, llama_url: str
) -> None:
    plain = openai.OpenAI(base_url=f"{llama_url}/v1", api_key="x")

    def text(some: openai.OpenAI) -> str:
        chunks = some.chat.completions.create(messages=ASK, stream=True, seed=1, **LIMIT)
        assert isinstance(chunks, openai.Stream)
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

    assert text(client) == text(plain) != ""


def test_a_block_in_the_middle_of_a_stream_ends_the_iterator_for_good(
    llama_url: str, policy: Policy
) -> None:
    rail = Guardrail(policy, MarkerClassifier(r"\w+\W+\w+\W+\w+\W+\w+\W+\w+\W+\w+"))
    plain = openai.OpenAI(base_url=f"{llama_url}/v1", api_key="x")
    client = guard_client(plain, policy=rail)
    ask = [{"role": "user", "content": "Tell a story."}]
    stream = client.chat.completions.create(
        messages=ask, stream=True, model="smollm2", max_tokens=60
    )
    with pytest.raises(GuardrailBlocked):
        list(stream)
    assert list(stream) == []
    stream.close()
    harmless = client.chat.completions.create(  # the connection pool is still sound
        messages=ASK, model="smollm2", max_tokens=1
    )
    assert harmless.choices


def test_other_methods_and_copies_of_a_client_are_guarded(client: openai.OpenAI) -> None:
    calls = [
        lambda c: c.chat.completions.with_raw_response.create(messages=EVIL, **LIMIT),
        lambda c: c.with_options(timeout=5).chat.completions.create(messages=EVIL, **LIMIT),
        lambda c: c.completions.create(model="smollm2", prompt="BAD", max_tokens=2),
        lambda c: c.responses.create(model="smollm2", input="BAD"),
        lambda c: c.embeddings.create(model="smollm2", input=["ok", "BAD"]),
    ]
    for call in calls:
        with pytest.raises(GuardrailBlocked):
            call(client)


def test_paths_without_text_pass_unchanged(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["smollm2"]


def test_an_answer_that_no_rule_looks_at_is_streamed_as_it_comes(
    llama_url: str, marker: MarkerClassifier
) -> None:
    policy = parse_policy(
        "version: 1\nname: i\ncategories: {unsafe: {direction: input, block: 0.9}}"
    )
    plain = openai.OpenAI(base_url=f"{llama_url}/v1", api_key="x")
    client = guard_client(plain, policy=Guardrail(policy, marker))
    chunks = client.chat.completions.create(messages=ASK, stream=True, **LIMIT)
    assert len(list(chunks)) > 3
    assert [sample.role.value for sample in marker.seen] == ["user"]


def test_errors_of_the_server_stay_errors_of_the_client(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(messages=ASK, model="smollm2", max_tokens="x")  # type: ignore[call-overload]


def test_flags_are_told_for_input(llama_url: str, rail: Guardrail) -> None:
    told: list[Verdict] = []
    plain = openai.OpenAI(base_url=f"{llama_url}/v1", api_key="x")
    client = guard_client(plain, policy=rail, on_flag=told.append)
    client.chat.completions.create(
        messages=[{"role": "user", "content": "MEH"}], model="smollm2", max_tokens=1
    )
    assert [verdict.action.value for verdict in told] == ["flag"]


async def test_the_async_client_is_guarded_in_all_forms(llama_url: str, rail: Guardrail) -> None:
    plain = openai.AsyncOpenAI(base_url=f"{llama_url}/v1", api_key="x")
    async with guard_client(plain, policy=rail) as client:
        whole = await client.chat.completions.create(messages=ASK, **LIMIT)
        assert whole.choices[0].message.content
        stream = await client.chat.completions.create(messages=ASK, stream=True, **LIMIT)
        assert isinstance(stream, openai.AsyncStream)
        assert [chunk async for chunk in stream]
        results = await asyncio.gather(
            *(
                client.chat.completions.create(messages=m, model="smollm2", max_tokens=1)
                for m in (ASK, EVIL, ASK, EVIL)
            ),
            return_exceptions=True,
        )
        assert [isinstance(r, GuardrailBlocked) for r in results] == [False, True, False, True]


async def test_an_early_break_of_an_async_stream_leaves_nothing_behind(
    llama_url: str, rail: Guardrail
) -> None:
    plain = openai.AsyncOpenAI(base_url=f"{llama_url}/v1", api_key="x")
    async with guard_client(plain, policy=rail) as client:
        stream = await client.chat.completions.create(
            messages=ASK, stream=True, model="smollm2", max_tokens=200
        )
        async with stream:
            async for _ in stream:
                break
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_anthropic_messages_are_guarded_whole_and_streamed(llama_url: str, rail: Guardrail) -> None:
    plain = anthropic.Anthropic(base_url=llama_url, api_key="x")
    client = guard_client(plain, policy=rail)
    whole = client.messages.create(messages=ASK, **CLAUDE)
    assert isinstance(whole, anthropic.types.Message)
    with client.messages.stream(messages=ASK, **CLAUDE) as stream:
        assert stream.get_final_message().content
    with pytest.raises(GuardrailBlocked):
        client.messages.create(messages=EVIL, **CLAUDE)


async def test_the_async_anthropic_client_is_guarded(llama_url: str, rail: Guardrail) -> None:
    plain = anthropic.AsyncAnthropic(base_url=llama_url, api_key="x")
    async with guard_client(plain, policy=rail, on_block="message") as client:
        refused = await client.messages.create(messages=EVIL, **CLAUDE)
        assert refused.content[0].text == "no way"
        assert refused.stop_reason == "refusal"


def test_another_packages_client_is_refused_with_advice() -> None:
    with pytest.raises(TypeError, match="@guard"):
        guard_client(json.JSONDecoder())


def test_a_client_with_paths_of_its_own_is_refused_not_left_unguarded() -> None:
    client = anthropic.AnthropicVertex(region="r", project_id="p", access_token="t")
    with pytest.raises(TypeError, match="official packages"):
        guard_client(client)
