"""The proxy between the official SDKs and a real llama.cpp server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import anthropic
import openai
import pytest
from aiohttp import web

from guardrail.policy import parse_policy
from guardrail.proxy import Settings, make_app
from tests.conftest import MarkerClassifier

pytestmark = pytest.mark.real

POLICY = "version: 1\nname: t\nmessage: no way\ncategories: {unsafe: {flag: 0.5, block: 0.9}}"
ASK = [{"role": "user", "content": "Write a long story of a cat in a big city."}]
BAD = [{"role": "user", "content": "BAD"}]


@pytest.fixture(scope="module", params=["harmless", "harmful"])
def proxy(request, llama_url: str) -> Iterator[tuple[str, str]]:
    """A proxy in a thread; in the harmful case the words `the` and `was` are what harms."""
    word = "BAD" if request.param == "harmless" else r"BAD|\b(?:the|was)\b"
    app = make_app(Settings(llama_url), parse_policy(POLICY), MarkerClassifier(word))  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield asyncio.run_coroutine_threadsafe(start(), loop).result(10), request.param
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def no_word(text: str) -> bool:
    return not any(f" {word} " in f" {text} " for word in ("the", "was"))


@pytest.mark.parametrize("stream", [False, True])
def test_openai_chat_sync(proxy, stream) -> None:
    url, kind = proxy
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="m", messages=BAD, stream=stream)
        assert caught.value.code == "content_filter"
        made = client.chat.completions.create(
            model="m", messages=ASK, stream=stream, max_tokens=120, temperature=0
        )
        if stream:
            chunks = list(made)
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            finish = [c.choices[0].finish_reason for c in chunks if c.choices][-1]
        else:
            text, finish = made.choices[0].message.content, made.choices[0].finish_reason
    expect_chat(kind, text, finish, stream)


def expect_chat(kind: str, text: str | None, finish: str | None, stream: bool) -> None:
    if kind == "harmless":
        assert finish in ("length", "stop")
        assert len(text or "") > 100
    else:
        assert finish == "content_filter"
        assert no_word(text or "")
        assert text == "no way" or stream


@pytest.mark.parametrize("stream", [False, True])
async def test_openai_chat_async(proxy, stream) -> None:
    url, kind = proxy
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="m", messages=BAD, stream=stream)
        made = await client.chat.completions.create(
            model="m", messages=ASK, stream=stream, max_tokens=120, temperature=0
        )
        if stream:
            chunks = [chunk async for chunk in made]
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            finish = [c.choices[0].finish_reason for c in chunks if c.choices][-1]
        else:
            text, finish = made.choices[0].message.content, made.choices[0].finish_reason
    expect_chat(kind, text, finish, stream)


@pytest.mark.parametrize("stream", [False, True])
def test_openai_completions(proxy, stream) -> None:
    url, kind = proxy
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model="m", prompt="BAD", stream=stream)
        made = client.completions.create(
            model="m", prompt="Once upon a time", stream=stream, max_tokens=120, temperature=0
        )
        if stream:
            chunks = list(made)
            text = "".join(c.choices[0].text for c in chunks if c.choices)
            finish = [c.choices[0].finish_reason for c in chunks if c.choices][-1]
        else:
            text, finish = made.choices[0].text, made.choices[0].finish_reason
    expect_chat(kind, text, finish, stream)


@pytest.mark.parametrize("stream", [False, True])
def test_openai_responses(proxy, stream) -> None:
    url, kind = proxy
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="m", input="BAD", stream=stream)
        made = client.responses.create(
            model="m",
            input=ASK[0]["content"],
            stream=stream,
            max_output_tokens=120,
            temperature=0,
        )
        if stream:
            events = list(made)
            text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
            final = events[-1].response
        else:
            final, text = made, made.output_text
    if kind == "harmless":
        assert len(text) > 100
    else:
        assert final.status == "incomplete"
        assert final.incomplete_details.reason == "content_filter"
        assert no_word(text)


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_messages_sync(proxy, stream) -> None:
    url, kind = proxy
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(model="m", messages=BAD, max_tokens=5, stream=stream)
        if stream:
            with client.messages.stream(model="m", messages=ASK, max_tokens=120) as made:
                text = "".join(made.text_stream)
                message = made.get_final_message()
        else:
            message = client.messages.create(model="m", messages=ASK, max_tokens=120)
            text = "".join(b.text for b in message.content if b.type == "text")
    expect_message(kind, text, message)


def expect_message(kind: str, text: str, message) -> None:
    if kind == "harmless":
        assert len(text) > 100
        assert message.stop_reason in ("max_tokens", "end_turn")
    else:
        assert message.stop_reason == "refusal"
        assert no_word(text)


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_messages_async(proxy, stream) -> None:
    url, kind = proxy
    async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as client:
        with pytest.raises(anthropic.BadRequestError):
            await client.messages.create(model="m", messages=BAD, max_tokens=5, stream=stream)
        if stream:
            async with client.messages.stream(model="m", messages=ASK, max_tokens=120) as made:
                text = "".join([part async for part in made.text_stream])
                message = await made.get_final_message()
        else:
            message = await client.messages.create(model="m", messages=ASK, max_tokens=120)
            text = "".join(b.text for b in message.content if b.type == "text")
    expect_message(kind, text, message)


@pytest.mark.parametrize("stream", [False, True])
def test_langchain(proxy, stream) -> None:
    chat = pytest.importorskip("langchain_openai")
    url, kind = proxy
    model = chat.ChatOpenAI(
        base_url=f"{url}/v1",
        api_key="none",
        model="m",
        max_tokens=120,
        temperature=0,
        max_retries=0,
    )
    question = ASK[0]["content"]
    if stream:
        parts = list(model.stream(question))
        text = "".join(str(part.content) for part in parts)
        finish = next(
            part.response_metadata["finish_reason"]
            for part in reversed(parts)
            if part.response_metadata.get("finish_reason")
        )
    else:
        message = model.invoke(question)
        text, finish = str(message.content), message.response_metadata["finish_reason"]
    expect_chat(kind, text, finish, stream)
