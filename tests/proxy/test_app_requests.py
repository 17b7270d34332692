"""What the proxy does with paths, headers and bodies of requests, over real sockets."""

from __future__ import annotations

import gzip
import json

import pytest
from aiohttp import web
from yarl import URL

from tests.proxy.conftest import completion


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/V1/Chat/Completions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/v1/chat%2Fcompletions",
        "/v1/ch%61t/completions",
        "/chat/completions",
        "/openai/deployments/gpt/chat/completions",
        "/proxy/v1/chat/completions",
    ],
)
async def test_no_spelling_of_a_guarded_path_leads_past_the_checks(start, path) -> None:
    bench = await start()
    bench.upstream.answers(completion("hello"))
    body = {"messages": [{"role": "user", "content": "BAD"}]}
    async with bench.client.post(URL(bench.url + path, encoded=True), json=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["code"] == "content_filter"
    assert not bench.upstream.requests


async def test_other_paths_pass_untouched_and_are_counted(start) -> None:
    bench = await start()

    async def handler(request):
        return web.Response(body=gzip.compress(b"zip"), headers={"Content-Encoding": "gzip"})

    bench.upstream.handler = handler
    headers = {"Accept-Encoding": "gzip"}
    url = URL(f"{bench.url}/v1/models?x=%2F", encoded=True)
    async with bench.client.get(url, headers=headers) as response:
        assert await response.read() == b"zip"
    assert bench.upstream.requests[0][1] == "/v1/models?x=%2F"
    async with bench.client.get(f"{bench.url}/metrics") as response:
        assert 'guardrail_bypasses_total{reason="path"} 1.0' in await response.text()


async def test_other_paths_can_be_refused(start) -> None:
    bench = await start(passthrough=False)
    async with bench.client.get(f"{bench.url}/v1/models") as response:
        assert response.status == 403
        assert (await response.json())["error"]["code"] == "path_not_allowed"
    assert not bench.upstream.requests


async def test_the_upstream_key_replaces_the_client_s_and_is_not_shown(start) -> None:
    from guardrail.proxy import Settings

    bench = await start(upstream_key="secret-key")
    bench.upstream.answers(completion("hello"))
    async with bench.chat() as response:
        assert response.status == 200
    assert bench.upstream.requests[0][2]["Authorization"] == "Bearer secret-key"
    assert "secret-key" not in repr(Settings("http://h", upstream_key="secret-key"))


async def test_hop_by_hop_and_forged_headers_do_not_travel(start) -> None:
    bench = await start()
    bench.upstream.answers(completion("hello"), **{"x-guardrail-action": "forged"})
    headers = {"Connection": "x-secret", "X-Secret": "1", "TE": "trailers", "x-guardrail-x": "1"}
    body = {"messages": [{"role": "user", "content": "hi"}]}
    url = f"{bench.url}/v1/chat/completions"
    async with bench.client.post(url, json=body, headers=headers) as response:
        assert response.headers["x-guardrail-action"] == "pass"
    sent = {name.lower() for name in bench.upstream.requests[0][2]}
    assert not sent & {"x-secret", "te", "x-guardrail-x"}


BAD_BODIES = [
    (b"{", "JSON"),
    (b"[]", ""),
    (b"\xff\xfe", ""),
    (b'{"messages": "x"}', "messages"),
    (b'{"model": "m"}', "messages"),
    (b'{"messages": []}', "messages"),
    (b'{"messages": [{"role": "user", "content": 5}]}', "content"),
    (b'{"messages": [{"role": "user", "content": "a"}], "messages": []}', ""),
    (b"[" * 100_000, ""),
    (b"", ""),
]


@pytest.mark.parametrize(("body", "word"), BAD_BODIES)
async def test_a_bad_body_gets_a_clear_error_in_the_client_s_protocol(start, body, word) -> None:
    bench = await start()
    bench.upstream.answers(completion("hello"))
    async with bench.client.post(f"{bench.url}/v1/chat/completions", data=body) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert error["type"] == "invalid_request_error"
    assert word in error["message"] + str(error["param"])
    assert "Traceback" not in error["message"]
    assert not bench.upstream.requests
    async with bench.chat() as response:
        assert response.status == 200


async def test_a_huge_body_is_refused(start) -> None:
    bench = await start(max_request_bytes=10_000)
    async with bench.chat("x" * 20_000) as response:
        assert response.status == 413
        assert "10,000 bytes" in (await response.json())["error"]["message"]
    assert not bench.upstream.requests


async def test_a_decompression_bomb_is_refused(start) -> None:
    bench = await start(max_request_bytes=100_000)
    bomb = gzip.compress(b'{"messages": "' + b"x" * 50_000_000 + b'"}')
    headers = {"Content-Encoding": "gzip"}
    url = f"{bench.url}/v1/chat/completions"
    async with bench.client.post(url, data=bomb, headers=headers) as response:
        assert response.status in (400, 413)
    assert not bench.upstream.requests


async def test_a_compressed_body_is_checked(start) -> None:
    bench = await start()
    bench.upstream.answers(completion("hello"))
    url, headers = f"{bench.url}/v1/chat/completions", {"Content-Encoding": "gzip"}
    for text, status in (("BAD", 400), ("good", 200)):
        body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
        async with bench.client.post(url, data=gzip.compress(body), headers=headers) as response:
            assert response.status == status
    assert json.loads(bench.upstream.requests[0][3])["messages"][0]["content"] == "good"
    assert "Content-Encoding" not in bench.upstream.requests[0][2]


async def test_an_answer_that_comes_compressed_is_checked_all_the_same(start) -> None:
    bench = await start()

    async def handler(_):
        data = gzip.compress(json.dumps(completion("BAD")).encode())
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return web.Response(body=data, headers=headers)

    bench.upstream.handler = handler
    async with bench.chat() as response:
        assert "BAD" not in json.dumps(await response.json())
        assert response.headers["x-guardrail-action"] == "block"
