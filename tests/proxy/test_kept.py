"""Below the guarded endpoints: kept answers, their lists, and other uses of a request."""

from __future__ import annotations

import json

import pytest
from yarl import URL

from tests.proxy.conftest import completion

HARM = {"model": "m", "messages": [{"role": "user", "content": "BAD"}]}
SAID = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "BAD"}]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses/compact", {"model": "m", "input": "BAD"}),
        ("/v1/responses/compact", {"model": "m", "input": [SAID]}),
        ("/v1//Responses/%63ompact/", {"model": "m", "input": "BAD"}),
        ("/v1/responses/input_tokens", {"model": "m", "input": ["x", "BAD"]}),
        ("/v1/responses/resp_1/cancel", {"input": "BAD"}),
        ("/v1/responses/resp_1", {"metadata": {"topic": "this is BAD"}}),
        ("/v1/chat/completions/c1", {"metadata": {"topic": "this is BAD"}}),
        ("/v1/chat/completions/c1", HARM),
        ("/v1/chat/completions/render", HARM),
        ("/v1/chat/completions/a/b", {"text": "BAD"}),
    ],
)
async def test_no_body_below_a_guarded_path_is_forwarded_unjudged(start, path, body) -> None:
    bench = await start()
    bench.upstream.answers({"id": "r", "object": "response", "output": []})
    async with bench.client.post(URL(bench.url + path, encoded=True), json=body) as response:
        assert response.status == 400
    assert not bench.upstream.requests


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses/compact", {"model": "m", "input": "x"}),
        ("/v1/responses/compact", {"model": "m", "previous_response_id": "resp_1"}),
        ("/v1/responses/input_tokens", {"model": "m", "input": "x"}),
        ("/v1/responses/resp_1/cancel", None),
        ("/v1/responses/resp_1/cancel", {}),
        ("/v1/chat/completions/c1", {"metadata": {"topic": "x"}}),
    ],
)
async def test_harmless_calls_below_a_guarded_path_pass_byte_for_byte(start, path, body) -> None:
    bench = await start()
    answer = {"id": "r", "object": "response.compaction", "created_at": 1, "output": []}
    bench.upstream.answers(answer)
    data = b"" if body is None else json.dumps(body).encode()
    async with bench.client.post(bench.url + path, data=data) as response:
        assert await response.json() == answer
    method, sent, _, raw = bench.upstream.requests[0]
    assert (method, sent, raw) == ("POST", path, data)


async def test_text_in_a_compacted_conversation_is_judged(start) -> None:
    bench = await start()
    hidden = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"}
    image = {"type": "input_image", "image_url": "data:image/png;base64,QkFE", "detail": "auto"}
    fine = {"type": "message", "role": "user", "content": [image]}
    body = {"model": "m", "input": "x"}
    for output, status in ([fine, hidden], 200), ([SAID, hidden], 400):
        answer = {"id": "r", "object": "response.compaction", "created_at": 1, "output": output}
        bench.upstream.answers(answer)
        async with bench.client.post(f"{bench.url}/v1/responses/compact", json=body) as response:
            assert response.status == status
            assert b"BAD" not in await response.read()


@pytest.mark.parametrize(
    ("path", "item"),
    [
        ("/v1/chat/completions", completion("TEXT") | {"request_id": "req_1", "metadata": {}}),
        ("/v1/chat/completions/c1/messages", {"id": "c1-0", "role": "user", "content": "TEXT"}),
        ("/v1/responses/r/input_items", {**SAID, "id": "msg_1"}),
    ],
)
async def test_lists_of_what_the_api_keeps_are_judged_item_by_item(start, path, item) -> None:
    bench = await start()
    for text, status in ("fine", 200), ("BAD", 400):
        one = json.loads(json.dumps(item).replace("BAD", "TEXT").replace("TEXT", text))
        listed = {"object": "list", "data": [one], "first_id": "a", "last_id": "b"}
        bench.upstream.answers({**listed, "has_more": False})
        async with bench.client.get(bench.url + path) as response:
            assert response.status == status
            assert b"BAD" not in await response.read()
