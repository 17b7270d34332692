"""Guarded clients and what the API keeps: the official clients against a scripted server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import openai
import pytest
from openai._models import FinalRequestOptions

from guardrail import Guardrail, GuardrailBlocked, guard_client
from tests.conftest import MarkerClassifier
from tests.sdk.conftest import REDACTING

Sent = list[tuple[str, str, bytes]]


@contextmanager
def serving(
    answer: object, *, status: int = 200, kind: str | None = None
) -> Iterator[tuple[str, Sent]]:
    """Answer every request the same; bytes are an event stream unless their kind is given."""
    sent: Sent = []
    streamed = isinstance(answer, bytes)
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            sent.append((self.command, self.path, body))
            self.send_response(status)
            default = "text/event-stream" if streamed else "application/json"
            self.send_header("Content-Type", kind or default)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815  (names of the base class)

        def log_message(self, *_: object) -> None:  # type: ignore[override]
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", sent
        finally:
            server.shutdown()
            thread.join()


def response(text: str, **more: object) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"type": "message", "id": "m", "role": "assistant", "status": "completed"}
    body = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed"}
    return {**body, "model": "m", "output": [{**item, "content": [part]}], **more}


def completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
    return {**body, "choices": [{**choice, "finish_reason": "stop"}], "request_id": "req_1"}


def compaction(text: str) -> dict[str, Any]:
    return response(text, object="response.compaction")


def message_list(text: str) -> dict[str, Any]:
    item = {"id": "c1-0", "role": "user", "content": text}
    return {"object": "list", "data": [item], "first_id": "a", "last_id": "a", "has_more": False}


def item(text: str) -> dict[str, Any]:
    return {**response(text)["output"][0], "role": "user"}


def item_list(text: str) -> dict[str, Any]:
    return {**message_list(text), "data": [item(text)]}


def events(text: str) -> bytes:
    kinds = ("response.created", response("", output=[])), ("response.completed", response(text))
    return b"".join(
        f"event: {kind}\ndata: {json.dumps({'type': kind, 'response': body})}\n\n".encode()
        for kind, body in kinds
    )


ASKED = {"role": "user", "content": "hi"}
HARM = {"role": "user", "content": "BAD"}

CALLS: dict[str, tuple[Callable[[Any], Any], Callable[[str], object]]] = {
    "retrieve": (lambda c: c.responses.retrieve("resp_1"), response),
    "retrieve_stream": (lambda c: c.responses.retrieve("resp_1", stream=True), events),
    "cancel": (lambda c: c.responses.cancel("resp_1"), response),
    "compact": (lambda c: c.responses.compact(model="m", input="hi"), compaction),
    "chat": (lambda c: c.chat.completions.retrieve("c1"), completion),
    "chat_update": (lambda c: c.chat.completions.update("c1", metadata={"a": "b"}), completion),
    "chat_list": (
        lambda c: c.chat.completions.list().data,
        lambda text: {"object": "list", "data": [completion(text)]},
    ),
    "chat_messages": (lambda c: c.chat.completions.messages.list("c1").data, message_list),
    "items": (lambda c: c.conversations.items.list("conv_1"), item_list),
    "items_create": (lambda c: c.conversations.items.create("conv_1", items=[ASKED]), item_list),
    "item": (lambda c: c.conversations.items.retrieve("m", conversation_id="conv_1"), item),
    "odd_path": (lambda c: c.get("/Res%70onses//resp_1/", cast_to=object), response),
}


def use(answer: Any) -> str:
    """Return what a caller sees of an answer, however it comes."""
    if isinstance(answer, openai.Stream | list):
        return "".join(part.model_dump_json() for part in answer)
    return answer.model_dump_json() if hasattr(answer, "model_dump_json") else str(answer)


@pytest.mark.parametrize("name", CALLS)
def test_a_kept_answer_is_judged_when_it_is_fetched(name: str, rail: Guardrail) -> None:
    call, answer = CALLS[name]
    with (
        serving(answer("all is well")) as (url, sent),
        openai.OpenAI(base_url=url, api_key="x") as plain,
    ):
        assert "all is well" in use(call(guard_client(plain, policy=rail)))
        assert len(sent) == 1
    with serving(answer("BAD")) as (url, sent), openai.OpenAI(base_url=url, api_key="x") as plain:
        with pytest.raises(GuardrailBlocked):
            use(call(guard_client(plain, policy=rail)))
        assert len(sent) == 1


@pytest.mark.parametrize("name", ["retrieve", "compact", "chat", "items_create", "item"])
async def test_the_async_client_judges_kept_answers_too(name: str, rail: Guardrail) -> None:
    call, answer = CALLS[name]
    with serving(answer("BAD")) as (url, _):
        async with openai.AsyncOpenAI(base_url=url, api_key="x") as plain:
            with pytest.raises(GuardrailBlocked):
                await call(guard_client(plain, policy=rail))


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.responses.compact(model="m", input="BAD"),
        lambda c: c.responses.input_tokens.count(model="m", input="BAD"),
        lambda c: c.chat.completions.update("c1", metadata={"topic": "this is BAD"}),
        lambda c: c.post("/responses/%63ompact", cast_to=object, body={"input": "BAD"}),
        lambda c: c.conversations.create(items=[HARM]),
        lambda c: c.conversations.items.create("conv_1", items=[HARM, {**HARM, "content": "hi"}]),
        lambda c: c.conversations.update("conv_1", metadata={"topic": "this is BAD"}),
        lambda c: c.post("/Conversations/conv_1//items/", cast_to=object, body={"items": [HARM]}),
    ],
)
@pytest.mark.parametrize("on_block", ["raise", "message"])
def test_what_is_sent_below_an_endpoint_is_judged(
    call: Callable[[Any], Any], on_block: Any, rail: Guardrail
) -> None:
    with serving({}) as (url, sent), openai.OpenAI(base_url=url, api_key="x") as plain:
        client = guard_client(plain, policy=rail, on_block=on_block)
        if on_block == "raise":
            with pytest.raises(GuardrailBlocked):
                call(client)
        else:  # where a message cannot stand for the answer, an error does
            with pytest.raises(openai.BadRequestError, match="no way"):
                use(call(client))
        assert not sent


def test_a_request_under_another_spelling_is_judged(rail: Guardrail) -> None:
    body = {"messages": [{"role": "user", "content": "BAD"}]}
    with serving({}) as (url, sent), openai.OpenAI(base_url=url, api_key="x") as plain:
        with pytest.raises(GuardrailBlocked):
            guard_client(plain, policy=rail).post("/chat//c%6fmpletions", cast_to=object, body=body)
        assert not sent


def test_a_refused_fetch_can_be_answered_with_the_policys_message(rail: Guardrail) -> None:
    with serving(response("BAD")) as (url, _), openai.OpenAI(base_url=url, api_key="x") as plain:
        client = guard_client(plain, policy=rail, on_block="message")
        assert client.responses.retrieve("resp_1").output_text == "no way"


@pytest.mark.parametrize("name", ["items", "item"])
def test_no_message_of_the_policys_stands_for_what_is_kept(name: str, rail: Guardrail) -> None:
    call, answer = CALLS[name]
    with serving(answer("BAD")) as (url, _), openai.OpenAI(base_url=url, api_key="x") as plain:
        client = guard_client(plain, policy=rail, on_block="message")
        with pytest.raises(openai.BadRequestError, match="no way"):
            call(client)


def test_items_of_a_conversation_are_redacted_on_both_ways(marker: MarkerClassifier) -> None:
    rail = Guardrail(REDACTING, marker)
    mine = {"role": "user", "content": "I am bob@example.org"}
    listed = item_list("write to ann@example.org")
    with serving(listed) as (url, sent), openai.OpenAI(base_url=url, api_key="x") as plain:
        client = guard_client(plain, policy=rail)
        made = client.conversations.items.create("conv_1", items=[mine, ASKED])
        assert "ann@" not in made.model_dump_json()
        assert json.loads(sent[0][2])["items"][0]["content"] == "I am [REDACTED:email]"


async def test_a_session_of_the_agents_sdk_is_guarded_with_its_client(rail: Guardrail) -> None:
    agents = pytest.importorskip("agents", reason="needs the extra `integrations`")
    with serving(item_list("all is well")) as (url, sent):
        async with openai.AsyncOpenAI(base_url=url, api_key="x") as plain:
            client = guard_client(plain, policy=rail)
            session = agents.OpenAIConversationsSession(
                conversation_id="conv_1", openai_client=client
            )
            await session.add_items([ASKED])
            assert len(await session.get_items()) == 1
            with pytest.raises(GuardrailBlocked):
                await session.add_items([HARM])
            assert len(sent) == 2


def test_a_compacted_conversation_is_redacted_on_both_ways(marker: MarkerClassifier) -> None:
    rail = Guardrail(REDACTING, marker)
    answer = compaction("write to ann@example.org")
    with serving(answer) as (url, sent), openai.OpenAI(base_url=url, api_key="x") as plain:
        client = guard_client(plain, policy=rail)
        made = client.responses.compact(model="m", input="I am bob@example.org")
        assert "ann@" not in made.model_dump_json()
        assert b"bob@" not in sent[0][2]


def test_a_server_that_forgets_an_answer_is_not_in_the_way(rail: Guardrail) -> None:
    gone = {"id": "c1", "object": "chat.completion.deleted", "deleted": True}
    with serving(gone) as (url, _), openai.OpenAI(base_url=url, api_key="x") as plain:
        client = guard_client(plain, policy=rail)
        assert client.chat.completions.delete("c1").deleted


@pytest.mark.parametrize(
    ("text", "error"), [("fine", openai.BadRequestError), ("BAD", GuardrailBlocked)]
)
def test_an_error_that_quotes_the_model_is_judged(
    rail: Guardrail, text: str, error: type[Exception]
) -> None:
    quoted = {"error": {"message": "a call failed", "failed_generation": text}}
    with serving(quoted, status=400) as (url, _):
        client = guard_client(openai.OpenAI(base_url=url, api_key="k"), policy=rail)
        with client, pytest.raises(error):
            client.chat.completions.create(model="m", messages=[ASKED])  # type: ignore[list-item]


def test_an_answer_without_a_body_is_none_that_cannot_be_read(rail: Guardrail) -> None:
    with serving(b"", status=204, kind="application/json") as (url, _):
        client = guard_client(openai.OpenAI(base_url=url, api_key="k"), policy=rail)
        with client:
            assert client.responses.delete("resp_1") is None


def test_only_the_head_of_an_answer_has_nothing_to_judge(rail: Guardrail) -> None:
    with serving(response("fine")) as (url, sent):
        client = guard_client(openai.OpenAI(base_url=url, api_key="k"), policy=rail)
        with client:
            options: Any = {"method": "HEAD", "url": "/responses/resp_1"}
            client.request(httpx.Response, FinalRequestOptions(**options))
    assert sent[0][0] == "HEAD"


def test_an_error_that_is_labelled_a_stream_keeps_its_body(rail: Guardrail) -> None:
    said = b'{"error": {"message": "slow down, please"}}'
    with serving(said, status=429) as (url, _):
        client = guard_client(openai.OpenAI(base_url=url, api_key="k", max_retries=0), policy=rail)
        with client, pytest.raises(openai.RateLimitError, match="slow down"):
            client.chat.completions.create(model="m", messages=[ASKED])  # type: ignore[list-item]
