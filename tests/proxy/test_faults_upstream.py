"""Scripted faults of the model API, each with the answer that the client must get.

After each the proxy must be well: nothing in progress, no stream open, the next request served.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from guardrail.proxy import Limits

from .conftest import Bench, chunk, completion, stream_of

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def well(bench: Bench) -> None:
    """Assert that nothing of a fault is left behind."""
    async with asyncio.timeout(20):
        while bench.proxy.admission.in_progress:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert bench.proxy.admission.body_bytes == 0
    text = await bench.metrics()
    assert "guardrail_open_streams 0.0" in text
    assert 'guardrail_errors_total{error="Exception' not in text
    async with bench.client.get(f"{bench.url}/health/ready") as answer:
        assert answer.status == 200


@pytest.fixture
async def raw() -> AsyncIterator[Callable[[Script], Awaitable[str]]]:
    """Start an upstream that is a script on a socket: ``url = await raw(script)``."""
    servers: list[asyncio.Server] = []
    tasks: set[asyncio.Task[None]] = set()

    async def make(script: Script) -> str:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(asyncio.current_task())  # type: ignore[arg-type]
            await reader.readuntil(b"\r\n\r\n")
            try:
                await script(reader, writer)
            except ConnectionError:
                pass
            finally:
                writer.close()

        servers.append(await asyncio.start_server(run, "127.0.0.1", 0))
        return f"http://127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}"

    yield make
    for server in servers:
        server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def sends(*data: bytes, stay_s: float = 0.0, reset: bool = False) -> Script:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for one in data:
            writer.write(one)
            await writer.drain()
            await asyncio.sleep(0.02)
        await asyncio.sleep(stay_s)
        if reset:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    return script


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


LONG = b'{"choices": [' + b" " * 4_000

WHOLE_FAULTS = {
    "reset before the head": (sends(reset=True), 502, "broken"),
    "closed before the head": (sends(), 502, "broken"),
    "something else than HTTP": (sends(b"SSH-2.0-x\r\n\r\n"), 502, "broken"),
    "a head that never ends": (sends(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000), 502, "broken"),
    "reset in the body": (
        sends(HEAD + b"Content-Length: 9999\r\n\r\n{", reset=True), 502, "broken",
    ),
    "a body that is too short": (sends(HEAD + b"Content-Length: 9999\r\n\r\n{}"), 502, "broken"),
    "a chunk of no size": (
        sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"), 502, "broken",
    ),
    "a cut gzip": (
        sends(
            HEAD + b"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n"
            + gzip.compress(b"{}" * 500)[:20]
        ), 502, "unreadable",
    ),
    "silence before the head": (sends(stay_s=2), 504, "timeout"),
    "silence in the body": (
        sends(HEAD + b"Content-Length: 9999\r\n\r\n{", stay_s=2), 504, "timeout",
    ),
    "a body without end": (
        sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunked(LONG)] * 40),
        502, "too_large",
    ),
    "an empty body": (sends(HEAD + b"Content-Length: 0\r\n\r\n"), 502, "unreadable"),
    "a page in place of JSON": (
        sends(HEAD + b"Content-Length: 19\r\n\r\n<html>oh no</html>\n"), 502, "unreadable",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE_FAULTS)
async def test_a_fault_of_a_whole_answer_is_an_error_in_the_client_s_protocol(
    start, raw, name
) -> None:
    script, status, kind = WHOLE_FAULTS[name]
    bench = await start(url=await raw(script), read_timeout_s=0.6, max_response_bytes=100_000)
    async with bench.chat() as answer:
        body = await answer.json()
    assert (answer.status, bool(body["error"]["message"])) == (status, True)
    assert f'guardrail_upstream_errors_total{{kind="{kind}"}} 1.0' in await bench.metrics()
    await well(bench)


def events(*texts: str) -> bytes:
    return b"".join(stream_of(*texts))


SAID = "all of this is fine and has been judged. " * 6
STREAM_FAULTS = {
    "reset in a frame": sends(
        SSE, chunked(events(SAID)[:-60]), chunked(b'data: {"cho'), reset=True
    ),
    "closed without an end mark": sends(SSE, chunked(chunk(SAID)), b"0\r\n\r\n"),
    "cut in the middle of a chunk": sends(SSE, chunked(chunk(SAID)), b"ffff\r\ndata: {"),
    "silence in the stream": sends(SSE, chunked(chunk(SAID)), stay_s=2),
    "a frame that is no JSON": sends(SSE, chunked(chunk(SAID)), chunked(b"data: {oops}\n\n")),
    "a line without end": sends(SSE, chunked(chunk(SAID)), *[chunked(b"x" * 50_000)] * 60),
    "a stream without end": sends(SSE, *[chunked(chunk(SAID) * 10)] * 200),
    "an error event": sends(SSE, chunked(b'data: {"error": {"message": "overloaded"}}\n\n')),
}


@pytest.mark.parametrize("name", STREAM_FAULTS)
async def test_a_fault_in_a_stream_ends_it_so_that_the_client_notices(start, raw, name) -> None:
    limits = Limits(stream_bytes=400_000, stream_s=3)
    bench = await start(url=await raw(STREAM_FAULTS[name]), read_timeout_s=0.6, limits=limits)
    async with bench.chat(stream=True) as answer:
        data = await answer.read()
    assert b"error" in data
    assert b"oops" not in data
    assert b"data: [DONE]" not in data.split(b"error")[0]
    await well(bench)


async def test_a_name_that_does_not_resolve_is_a_502(start) -> None:
    bench = await start(url="http://no-such-host.invalid", connect_timeout_s=3)
    async with bench.chat() as answer:
        assert answer.status in (502, 504)
    await well(bench)


async def test_a_server_without_tls_behind_https_is_a_502(start, raw) -> None:
    url = await raw(sends(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    bench = await start(url=url.replace("http:", "https:"), connect_timeout_s=2, read_timeout_s=2)
    async with bench.chat() as answer:
        assert answer.status in (502, 504)
    await well(bench)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
async def test_an_error_of_the_model_api_comes_through_with_its_headers(start, status) -> None:
    bench = await start()
    payload = {"error": {"message": "no", "type": "t"}}
    bench.upstream.answers(payload, status=status, **{"Retry-After": "7", "x-ratelimit": "0"})
    async with bench.chat() as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (status, "7")
        assert await answer.json() == payload
    await well(bench)


async def test_trailing_text_behind_the_end_mark_does_not_leave_unjudged(start) -> None:
    bench = await start()
    bench.upstream.streams([*stream_of("fine"), chunk("BAD")])
    async with bench.chat(stream=True) as answer:
        assert b"BAD" not in await answer.read()
    await well(bench)


async def test_an_answer_in_another_charset_does_not_hide_text(start) -> None:
    bench = await start()

    async def handler(_: web.Request) -> web.Response:
        body = json.dumps(completion("BAD")).encode("utf-16")
        return web.Response(body=body, headers={"Content-Type": "application/json; charset=utf-16"})

    bench.upstream.handler = handler
    async with bench.chat() as answer:
        assert "BAD" not in (await answer.read()).decode("utf-16", "replace")
        assert answer.status == 502
    await well(bench)
