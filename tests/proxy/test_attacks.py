"""What a hostile client, or an upstream with odd manners, must not achieve."""

from __future__ import annotations

import asyncio
import io
import json
import time

import pytest

from tests.proxy.conftest import POLICY, Bench, completion

FINE = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
HARM = {"model": "m", "messages": [{"role": "user", "content": "BAD"}]}


async def raw_request(bench: Bench, head: str, body: bytes = b"", wait_s: float = 3.0) -> bytes:
    """Send bytes as they are and return whatever comes back until the proxy closes."""
    host, port = bench.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = f"{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(lines.encode("latin-1") + body)
    try:
        return await asyncio.wait_for(reader.read(), wait_s)
    finally:
        writer.close()


@pytest.mark.parametrize("role", ["User", "human", "user ", "critic"])
async def test_a_role_of_an_unknown_name_is_judged(start, role) -> None:
    bench = await start()
    bench.upstream.answers(completion("fine"))
    body = {"model": "m", "messages": [{"role": role, "content": "BAD"}]}
    async with bench.client.post(f"{bench.url}/v1/chat/completions", json=body) as response:
        assert response.status == 400
    assert not bench.upstream.requests


async def test_text_in_a_field_that_we_do_not_know_is_judged(start) -> None:
    bench = await start()
    bench.upstream.answers(completion("fine"))
    async with bench.chat(documents=[{"text": "this is BAD"}]) as response:
        assert response.status == 400
    assert not bench.upstream.requests


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "x", "tool_call_id": "this is BAD"},
        {"role": "user", "content": "x", "id": "this is BAD"},
        {"role": "assistant", "tool_calls": [{"id": "this is BAD", "function": {"name": "f"}}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "x": "this is BAD"}}]},
    ],
)
async def test_text_in_place_of_an_id_is_judged(start, message) -> None:
    """Templates of open models print ids, and whole calls, into the prompt."""
    bench = await start()
    bench.upstream.answers(completion("fine"))
    body = {"model": "m", "messages": [message]}
    async with bench.client.post(f"{bench.url}/v1/chat/completions", json=body) as response:
        assert response.status == 400
    assert not bench.upstream.requests


@pytest.mark.parametrize("kind", [["this is BAD"], {"text": "this is BAD"}, [["BAD"]]])
async def test_text_in_place_of_a_type_does_not_pass(start, kind) -> None:
    part = {"type": kind, "text": "fine"}
    bench = await start()
    bench.upstream.answers(completion("fine"))
    for path, body in {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": [part]}]},
        "/v1/responses": {"input": [{"role": "user", "content": [part]}]},
        "/v1/conversations": {"items": [{"role": "user", "content": [part]}]},
        "/v1/messages": {"messages": [{"role": "user", "content": [part]}]},
    }.items():
        async with bench.client.post(bench.url + path, json={"model": "m", **body}) as response:
            assert response.status == 400, path
    assert not bench.upstream.requests
    bench.upstream.answers({"choices": [{"message": {"role": "assistant", "content": [part]}}]})
    async with bench.chat() as response:
        assert b"BAD" not in await response.read()
    chunk = {"choices": [{"index": 0, "delta": {"content": [part]}}]}
    bench.upstream.streams([f"data: {json.dumps(chunk)}\n\n".encode(), b"data: [DONE]\n\n"])
    async with bench.chat(stream=True) as response:
        assert b"BAD" not in await response.read()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses/resp_1",
        "/v1/responses/resp_1?stream=false",
        "/openai/responses/resp_1",
        "/v1//responses/./resp_1/",
        "/v1/chat/completions/c1",
        "/v1/chat/completions",
    ],
)
async def test_a_stored_answer_is_judged_when_it_is_fetched(start, path) -> None:
    bench = await start()
    item = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "BAD"}],
    }
    stored = {"id": "resp_1", "object": "response", "status": "completed", "output": [item]}
    if "chat" in path:
        stored = completion("BAD")
    if path.endswith("/completions"):
        stored = {"object": "list", "data": [completion("BAD")]}
    bench.upstream.answers(stored)
    async with bench.client.get(bench.url + path) as response:
        assert b"BAD" not in await response.read()
    assert len(bench.upstream.requests) == 1


async def test_a_stored_answer_that_is_harmless_is_fetched_byte_for_byte(start) -> None:
    bench = await start()
    stored = {"id": "r", "object": "response", "status": "completed", "output": []}
    bench.upstream.answers(stored)
    async with bench.client.get(f"{bench.url}/v1/responses/Resp_1?include=x") as response:
        assert await response.json() == stored
    assert bench.upstream.requests[0][:2] == ("GET", "/v1/responses/Resp_1?include=x")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_cannot_send_the_client_past_the_guardrail(start, status) -> None:
    bench = await start()
    bench.upstream.answers({}, status=status, Location="http://elsewhere.test/v1/chat/completions")
    async with bench.client.post(
        f"{bench.url}/v1/chat/completions/",
        json=FINE,
        allow_redirects=False,
    ) as response:
        assert response.status == 502
        assert "Location" not in response.headers
        assert (await response.json())["error"]["message"]
    assert bench.upstream.requests[0][1] == "/v1/chat/completions"


@pytest.mark.parametrize(
    "path",
    [
        "/openai/deployments/a%250d%250aX-Evil:%201%250d%250a/chat/completions",
        "/x%20HTTP/1.1%20/v1/chat/completions",
    ],
)
async def test_escapes_in_a_path_stay_escapes(start, path) -> None:
    bench = await start()
    bench.upstream.answers(completion("fine"))
    body = json.dumps(FINE).encode()
    got = await raw_request(bench, f"POST {path} HTTP/1.1", body)
    assert b"Traceback" not in got
    for _, sent, headers, _ in bench.upstream.requests:
        assert "X-Evil" not in headers
        assert " " not in sent
        assert "\n" not in sent
    got = await raw_request(bench, f"POST {path} HTTP/1.1", json.dumps(HARM).encode())
    assert b" 400 " in got.split(b"\r\n")[0]


@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/openai/chat/completions",
        "/models/chat/completions?api-version=1",
        "/openai/responses",
        "/api/paas/v4/chat/completions",
        "/v1/chat/completions;x=1",
        "/v1/%2563hat/completions",
        "/V1/Chat/Completions",
        "/v1/chat%2Fcompletions",
        "/v1\\chat\\completions",
        "/anthropic/v1/messages",
        "/v2/embeddings",
    ],
)
async def test_a_guarded_endpoint_is_guarded_under_any_prefix_and_spelling(start, path) -> None:
    bench = await start()
    bench.upstream.answers(completion("fine"))
    got = await raw_request(
        bench, f"POST {path} HTTP/1.1", json.dumps({**HARM, "input": "BAD"}).encode()
    )
    assert b" 400 " in got.split(b"\r\n")[0], got
    assert not bench.upstream.requests


async def test_messages_of_a_thread_are_not_taken_for_anthropics(start) -> None:
    bench = await start()
    bench.upstream.answers({"id": "msg"})
    body = {"role": "user", "content": "x"}
    async with bench.client.post(f"{bench.url}/v1/threads/t1/messages", json=body) as response:
        assert response.status == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "GET", "QUERY"])
async def test_a_body_on_a_guarded_path_is_judged_whatever_the_method(start, method) -> None:
    bench = await start()
    bench.upstream.answers(completion("fine"))
    got = await raw_request(
        bench, f"{method} /v1/chat/completions HTTP/1.1", json.dumps(HARM).encode()
    )
    assert b" 4" in got.split(b"\r\n")[0], got
    assert not bench.upstream.requests


async def test_the_upstream_reads_a_judged_body_as_we_did(start) -> None:
    """A server that honours another charset would read other words than we judged."""
    bench = await start()
    bench.upstream.answers(completion("fine"))
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "+AEIAQQBE-"}]})
    headers = {"Content-Type": "application/json; charset=utf-7"}
    async with bench.client.post(
        f"{bench.url}/v1/chat/completions", data=body, headers=headers
    ) as response:
        await response.read()
    for _, _, sent, _ in bench.upstream.requests:
        assert "utf-7" not in sent["Content-Type"]


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": [1, 2, 3]},
        {"prompt": [[1, 2], "fine"]},
        {"prompt_embeds": "AAAA"},
    ],
)
async def test_a_prompt_that_nobody_can_read_follows_the_failure_mode(start, body) -> None:
    bench = await start()
    bench.upstream.answers({"object": "text_completion", "choices": []})
    async with bench.client.post(f"{bench.url}/v1/completions", json=body) as response:
        assert response.status == 400
        assert response.headers["x-guardrail-action"] == "block"
        assert "send text" in (await response.json())["error"]["message"]
    assert not bench.upstream.requests


async def test_a_policy_that_fails_open_lets_token_numbers_through(start) -> None:
    bench = await start(POLICY + "\nfailure: {block: open}")
    bench.upstream.answers({"object": "text_completion", "choices": []})
    async with bench.client.post(f"{bench.url}/v1/completions", json={"prompt": [1]}) as response:
        assert response.status == 200


async def test_an_error_that_quotes_the_model_is_judged(start) -> None:
    bench = await start()
    error = {"message": "no such tool", "code": "tool_use_failed", "failed_generation": "so BAD"}
    bench.upstream.answers({"error": error}, status=400)
    async with bench.chat() as response:
        assert b"BAD" not in await response.read()


async def test_an_error_of_the_upstream_comes_through_as_it_is(start) -> None:
    bench = await start()
    payload = {"error": {"message": "rate limited", "type": "rate_limit_error"}}
    bench.upstream.answers(payload, status=429, **{"Retry-After": "3"})
    async with bench.chat() as response:
        assert response.status == 429
        assert response.headers["Retry-After"] == "3"
        assert await response.json() == payload


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(completion("BAD")).encode() + b"\n\n",
        json.dumps(completion("BAD")).encode() + b"\n\ndata: [DONE]\n\n",
        b"BAD: x\ndata: {}\n\ndata: [DONE]\n\n",
    ],
)
async def test_lines_that_are_no_events_do_not_pass_as_keepalives(start, data) -> None:
    bench = await start()
    bench.upstream.streams([data])
    async with bench.chat(stream=True) as response:
        assert b"BAD" not in await response.read()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/moderations"])
async def test_a_header_that_is_not_utf8_is_an_error_and_no_crash(start, path) -> None:
    bench = await start()
    bench.upstream.answers(completion("fine"))
    head = f"POST {path} HTTP/1.1\r\nAuthorization: Bearer \xff\xfe"
    body = {**HARM, "messages": [{"role": "user", "content": "x"}], "input": "x"}
    got = await raw_request(bench, head, json.dumps(body).encode())
    assert b" 500 " not in got.split(b"\r\n")[0], got
    assert got


@pytest.mark.parametrize(
    "target",
    [
        "*",
        "http://evil.test/v1/models",
        "http:@evil.test/",
        "evil.test:80",
        "@evil.test/x",
        "http://evil.test",
        "//evil.test/v1/models",
        "?x",
    ],
)
async def test_no_request_target_leads_elsewhere_or_crashes(start, target) -> None:
    bench = await start()
    bench.upstream.answers({})
    for method in ("GET", "OPTIONS", "CONNECT", "POST"):
        got = await raw_request(bench, f"{method} {target} HTTP/1.1")
        assert b" 500 " not in got.split(b"\r\n")[0], (method, got)


@pytest.mark.parametrize("token", ["websocket", "h2c", "tcp"])
async def test_an_upgrade_neither_hangs_nor_passes(start, token) -> None:
    bench = await start()
    bench.upstream.answers(completion("fine"))
    body = json.dumps(HARM).encode()
    host, port = bench.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\n"
        f"Upgrade: {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    got = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert b" 400 " in got.split(b"\r\n")[0], got
    assert not bench.upstream.requests


@pytest.mark.parametrize("form", ["parts", "messages"])
async def test_a_request_of_very_many_texts_is_refused_and_does_not_stall(start, form) -> None:
    bench = await start()
    bench.upstream.answers(completion("fine"))
    part = {"type": "text", "text": "a"}
    messages = [{"role": "user", "content": [part] * 250_000}]
    if form == "messages":
        messages = [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}] * 100_000
    body = json.dumps({"model": "m", "messages": messages}).encode()
    started = time.monotonic()
    async with bench.client.post(
        f"{bench.url}/v1/chat/completions", data=io.BytesIO(body)
    ) as response:
        assert response.status == 400
    assert time.monotonic() - started < 60
    assert not bench.upstream.requests
