"""Redaction in process: decorator, scope, streams and guarded clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from guardrail import Guardrail, GuardrailBlocked, guard, guard_client
from guardrail.errors import PolicyError
from guardrail.types import Action, Segment, Verdict
from tests.conftest import MarkerClassifier
from tests.proxy.dialects import STREAMS, WHOLES
from tests.sdk.conftest import REDACTING
from tests.test_redact import CLEAN, MAIL, TEXT

PIECES = [TEXT[n : n + 6] for n in range(0, len(TEXT), 6)]
KEY: Any = ("openai.chat", "text")


@pytest.fixture
def rail(marker: MarkerClassifier) -> Guardrail:
    return Guardrail(REDACTING, marker)


def test_a_decorated_function_gets_and_gives_redacted_text(rail: Guardrail) -> None:
    @guard(policy=rail)
    def chat(prompt: str) -> str:
        assert prompt == CLEAN
        return TEXT

    assert chat(TEXT) == chat(prompt=TEXT) == CLEAN


async def test_messages_are_rebuilt_and_the_callers_own_stay_as_they_are(rail: Guardrail) -> None:
    @guard(policy=rail)
    async def chat(messages: list[dict[str, Any]]) -> dict[str, Any]:
        seen.append(messages)
        return WHOLES[KEY](TEXT)

    seen: list[Any] = []
    asked = [{"role": "user", "content": [{"type": "text", "text": TEXT}], "name": "ann"}]
    assert await chat(asked) == WHOLES[KEY](CLEAN)
    assert seen == [[{"role": "user", "content": [{"type": "text", "text": CLEAN}], "name": "ann"}]]
    assert asked[0]["content"][0]["text"] == TEXT  # type: ignore[index]


async def test_streams_are_redacted_sync_and_async(rail: Guardrail) -> None:
    @guard(policy=rail)
    def chat(prompt: str) -> Iterator[str]:
        yield from PIECES

    @guard(policy=rail)
    async def achat(prompt: str) -> AsyncIterator[str]:
        for piece in PIECES:
            yield piece

    assert "".join(chat("hi")) == CLEAN
    assert "".join([item async for item in achat("hi")]) == CLEAN


def test_answers_and_chunks_of_a_client_keep_their_types(rail: Guardrail) -> None:
    whole = ChatCompletion.model_validate(WHOLES[KEY](TEXT))
    with guard(policy=rail) as scope:
        made = scope.output(whole)
    assert isinstance(made, ChatCompletion)
    assert made.choices[0].message.content == CLEAN
    payload = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [
        ChatCompletionChunk.model_validate(
            {**payload, "choices": [{"index": 0, "delta": {"content": p}, "finish_reason": None}]}
        )
        for p in PIECES
    ]
    out = list(rail.check_stream(chunks))
    assert all(isinstance(chunk, ChatCompletionChunk) for chunk in out)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in out) == CLEAN


def test_scopes_return_what_may_be_sent(rail: Guardrail) -> None:
    with guard(policy=rail) as scope:
        assert scope.input(TEXT) == CLEAN
        assert scope.input([TEXT, "fine"]) == [CLEAN, "fine"]
        assert scope.input(Segment(TEXT)).text == CLEAN
        fine = [{"role": "user", "content": "fine"}]
        assert scope.input(fine) is fine


def test_shapes_that_cannot_be_rebuilt_are_refused_with_the_fix(rail: Guardrail) -> None:
    class Odd:
        type = "human"

        def __init__(self, content: str) -> None:
            self.content = content

    @guard(policy=rail, input=lambda text: f"<{text}>")
    def computed(text: str) -> str:
        return text

    @guard(policy=rail, output=lambda pair: pair[1])
    def read(prompt: str) -> tuple[int, str]:
        return 1, TEXT

    with guard(policy=rail) as scope, pytest.raises(PolicyError, match="cannot be rebuilt"):
        scope.input([Odd(TEXT)])
    with pytest.raises(PolicyError, match="name a parameter instead"):
        computed(MAIL)
    assert computed("fine") == "fine"
    with pytest.raises(PolicyError, match="cannot be rebuilt"):
        read("hi")
    with pytest.raises(GuardrailBlocked):  # a stream is cut instead
        list(rail.check_stream([(TEXT,)], read=lambda item: item[0]))


def test_the_callback_hears_of_redactions(rail: Guardrail) -> None:
    told: list[Verdict] = []

    @guard(policy=rail, on_flag=told.append)
    def chat(prompt: str) -> str:
        return "fine"

    chat(TEXT)
    assert [v.action for v in told] == [Action.REDACT]
    assert told[0].redacted == {"email": 1, "payment_card": 1}


@pytest.mark.parametrize("stream", [False, True])
def test_guarded_clients_send_and_receive_redacted_text(rail: Guardrail, stream: bool) -> None:
    sent: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.read())
        if stream:
            body = b"".join(STREAMS[KEY](PIECES))
            return httpx.Response(200, content=body, headers={"content-type": "text/event-stream"})
        return httpx.Response(200, json=WHOLES[KEY](TEXT))

    http = httpx.Client(transport=httpx.MockTransport(answer))
    plain = openai.OpenAI(base_url="http://x/v1", api_key="x", http_client=http, max_retries=0)
    client = guard_client(plain, policy=rail)
    asked: Any = [{"role": "user", "content": TEXT}]
    got: Any = client.chat.completions.create(model="m", messages=asked, stream=stream)
    if stream:
        text = "".join(c.choices[0].delta.content or "" for c in got if c.choices)
    else:
        text = got.choices[0].message.content
    assert text == CLEAN
    assert MAIL.encode() not in sent[0]
    assert b"[REDACTED:email]" in sent[0]


def test_content_can_be_redacted_without_a_check(rail: Guardrail, marker: MarkerClassifier) -> None:
    assert rail.redact(TEXT) == CLEAN
    assert rail.redact(WHOLES[KEY](TEXT), direction="output") == WHOLES[KEY](CLEAN)
    assert marker.seen == []


def test_frameworks_that_cannot_change_texts_refuse_the_policy(rail: Guardrail) -> None:
    agents = pytest.importorskip("guardrail.sdk.openai_agents", exc_type=ImportError)
    with pytest.raises(PolicyError, match="use 'action: block'"):
        agents.input_guardrail(rail)
