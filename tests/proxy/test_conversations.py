"""Conversations that the API keeps: what goes in, and what comes out, by the official client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
import pytest

from guardrail.wire import RefusalStyle
from tests.kept_conversations import Conversations
from tests.proxy.conftest import POLICY, Bench
from tests.proxy.test_attacks import raw_request

UNSEEN = POLICY + "\ninput: {turns: unseen}"
USER = {"role": "user", "content": "hi"}
ANSWER = {
    "role": "assistant",
    "content": [{"type": "output_text", "text": "hello", "annotations": []}],
}
HARM = {"role": "user", "content": "BAD"}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "so BAD"}

Connect = Callable[..., Awaitable[tuple[openai.AsyncOpenAI, Conversations, Bench]]]


@pytest.fixture
async def connect(start) -> AsyncIterator[Connect]:
    """Start a proxy before a server of conversations; return a client of it, and both."""
    clients = []

    async def make(*texts: str, policy: str = POLICY, **settings: object):
        bench = await start(policy, **settings)
        kept = Conversations(*texts)
        bench.upstream.handler = kept.handle
        clients.append(openai.AsyncOpenAI(base_url=f"{bench.url}/v1", api_key="x", max_retries=0))
        return clients[-1], kept, bench

    yield make
    for client in clients:
        await client.close()


SENDS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "create": lambda c, items: c.conversations.create(items=items),
    "items": lambda c, items: c.conversations.items.create("conv_1", items=items),
    "post": lambda c, items: c.post("/conversations/conv_1", cast_to=object, body={"items": items}),
}


@pytest.mark.parametrize("policy", [POLICY, UNSEEN], ids=["latest_turn", "unseen"])
@pytest.mark.parametrize("send", SENDS)
async def test_no_harmful_item_is_put_into_a_conversation(connect, send, policy) -> None:
    client, kept, _ = await connect(policy=policy)
    for items in (
        [HARM],
        [HARM, ANSWER],
        [HARM, ANSWER, USER],  # all of it is new, whoever is said to have answered
        [USER, RESULT, ANSWER, USER],
        [USER, {"type": "program_output", "call_id": "c", "result": "so BAD"}],
        ["BAD"],
    ):
        with pytest.raises(openai.BadRequestError, match="no way") as caught:
            await SENDS[send](client, items)
        assert caught.value.code == "content_filter"
    assert not kept.taken


async def test_harmless_items_are_put_in_and_given_out_as_they_are(connect) -> None:
    client, kept, bench = await connect()
    made = await client.conversations.create(items=[], metadata={"topic": "greetings"})
    assert (made.id, made.metadata) == ("conv_1", {"topic": "greetings"})
    added = await client.conversations.items.create("conv_1", items=[USER, ANSWER])
    listed = [item async for item in client.conversations.items.list("conv_1")]
    assert listed == added.data
    assert (await client.conversations.items.retrieve("msg_0", conversation_id="conv_1")) in listed
    assert (await client.conversations.update("conv_1", metadata={"a": "b"})).id == "conv_1"
    assert (await client.conversations.retrieve("conv_1")).id == "conv_1"
    assert (await client.conversations.items.delete("msg_0", conversation_id="conv_1")).id
    assert (await client.conversations.delete("conv_1")).deleted
    assert len(kept.items) == 1
    assert 'guardrail_bypasses_total{reason="path"} 0.0' in await bench.metrics()


@pytest.mark.parametrize("style", list(RefusalStyle))
async def test_what_is_kept_there_is_judged_when_it_is_fetched(connect, style) -> None:
    client, kept, _ = await connect("BAD", refusal=style)
    refused = openai.PermissionDeniedError if style is RefusalStyle.ERROR_403 else (
        openai.BadRequestError
    )  # fmt: skip
    for call in (
        lambda: client.conversations.items.list("conv_1"),
        lambda: client.conversations.items.retrieve("msg_0", conversation_id="conv_1"),
    ):
        with pytest.raises(refused, match="no way"):
            await call()
    assert len(kept.taken) == 2
    with pytest.raises(refused, match="no way"):
        await client.conversations.items.create("conv_1", items=[HARM])
    assert len(kept.taken) == 2


async def test_labels_are_judged_and_alone_they_change_nothing_else(connect) -> None:
    client, kept, _ = await connect()
    for call in (
        lambda: client.conversations.update("conv_1", metadata={"topic": "this is BAD"}),
        lambda: client.conversations.create(items=[USER], metadata={"topic": "this is BAD"}),
    ):
        with pytest.raises(openai.BadRequestError):
            await call()
    assert not kept.taken


async def test_items_are_redacted_on_both_ways(connect) -> None:
    rule = "personal: {detectors: [email], action: redact}"
    client, kept, _ = await connect(
        "I am ann@example.org", policy=POLICY.replace("{unsafe", f"{{{rule}, unsafe")
    )
    said = {"type": "input_text", "text": "I am bob@example.org"}
    await client.conversations.items.create(
        "conv_1", items=[USER, ANSWER, {"role": "user", "content": [said]}]
    )
    assert kept.items[-1]["content"] == [{**said, "text": "I am [REDACTED:email]"}]
    listed = await client.conversations.items.list("conv_1")
    assert listed.data[0].content[0].text == "I am [REDACTED:email]"


async def test_a_session_of_the_agents_sdk_keeps_to_the_policy(connect) -> None:
    pytest.importorskip("agents", reason="needs the extra `integrations`")
    from agents import OpenAIConversationsSession

    client, kept, _ = await connect()
    session = OpenAIConversationsSession(openai_client=client)
    await session.add_items([USER, ANSWER])
    assert [item["role"] for item in await session.get_items()] == ["user", "assistant"]
    with pytest.raises(openai.BadRequestError, match="no way"):
        await session.add_items([HARM])
    assert len(kept.items) == 2
    kept.items.append({**kept.items[0], "content": [{"type": "input_text", "text": "BAD"}]})
    with pytest.raises(openai.BadRequestError, match="no way"):
        await session.get_items()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/conversations",
        "/v1/conversations/",
        "/openai/v1/conversations/conv_1/items",
        "/v1//Conversations/./conv_1/%69tems/",
        "/v1/conversations/conv_1/%2569tems;x=1",
        "/v1/files/../conversations/conv_1/items",
        "/v1/conversations/conv_1/messages",
        "/v1/conversations/chat/completions/../../conv_1/items",
    ],
)
async def test_nothing_is_put_into_a_conversation_under_any_spelling(start, path) -> None:
    bench = await start()
    bench.upstream.answers({"object": "list", "data": []})
    item = {"type": "message", "role": "user", "content": "BAD"}
    bodies = ({"items": [item]}, {"Items": [item]}, {"item": item}, item, [item], {"items": item})
    for method in ("POST", "PUT", "GET"):
        for body in bodies:
            got = await raw_request(bench, f"{method} {path} HTTP/1.1", json.dumps(body).encode())
            assert b" 400 " in got.split(b"\r\n")[0], (method, body, got)
    assert not bench.upstream.requests


@pytest.mark.parametrize(
    "answer",
    [
        {"object": "list", "data": [{"type": "message", "content": "BAD"}]},
        {"object": "list", "data": [], "note": "BAD"},
        {"object": "conversation", "content": [{"type": "output_text", "text": "BAD"}]},
        {"type": "message", "object": "conversation", "content": [{"text": "BAD"}]},
        {"type": "message", "content": [{"type": ["BAD"]}]},
        {"type": "new_output", "result": "BAD", "image_url": None},
        {"type": "new_output", "output": [{"type": "input_image", "image_url": "this is BAD"}]},
        {"type": "new_output", "output": "data:text/plain;base64,QUJD this is BAD"},
        {"object": "conversation.history", "entries": [{"content": "BAD"}]},
    ],
)
async def test_no_shape_of_what_is_kept_hides_text(start, answer) -> None:
    bench = await start()
    bench.upstream.answers(answer)
    async with bench.client.get(f"{bench.url}/v1/conversations/c/items") as response:
        assert response.status in (400, 502)  # refused, or unreadable
        assert b"BAD" not in await response.read()
