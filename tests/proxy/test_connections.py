"""What the bounds on connections promise: nobody holds one up by being slow."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from guardrail.proxy import Limits

from .conftest import Bench, chunk, completion


async def connect(bench: Bench) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = bench.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def is_closed(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, within_s: float = 20.0
) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1), within_s) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    finally:
        writer.close()


async def test_headers_that_never_end_are_cut_off(start) -> None:
    bench = await start(limits=Limits(header_s=0.3))
    reader, writer = await connect(bench)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")
    for _ in range(20):  # a byte now and then keeps nothing alive
        writer.write(b"X")
        await asyncio.sleep(0.05)
        if reader.at_eof():
            break
    assert await is_closed(reader, writer)
    assert 'cut_connections_total{reason="headers"} 1.0' in await bench.metrics()


async def test_a_connection_may_ask_again_however_long_it_lives(start) -> None:
    bench = await start(limits=Limits(header_s=0.2))
    bench.upstream.answers(completion("fine"))
    for _ in range(3):
        async with bench.chat() as answer:
            assert answer.status == 200
            await answer.read()
        await asyncio.sleep(0.3)
    assert "cut_connections_total{" not in await bench.metrics()


async def test_a_slow_body_is_not_taken_for_slow_headers(start) -> None:
    bench = await start(limits=Limits(header_s=0.2))
    bench.upstream.answers(completion("fine"))
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    reader, writer = await connect(bench)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode())
    for start_ in range(0, len(body), 20):
        writer.write(body[start_ : start_ + 20])
        await asyncio.sleep(0.1)
    assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize("path", ["chat/completions", "files/1/content"])
async def test_a_client_that_stops_reading_is_cut_off(start, path) -> None:
    bench = await start(limits=Limits(write_s=0.3))

    async def handler(request: web.Request) -> web.StreamResponse:
        if "files" in path:
            return web.Response(body=b"y" * 20_000_000)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(chunk("y" * 10_000))

    bench.upstream.handler = handler
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    _, writer = await connect(bench)
    head = f"POST /v1/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.transport.pause_reading()
    writer.write(head.encode() + body)
    async with asyncio.timeout(60):
        while 'reason="unread"} 1.0' not in await bench.metrics():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        if "chat" in path:
            await bench.upstream.disconnected.wait()
    writer.transport.abort()


async def test_connections_beyond_the_limit_are_closed_at_once(start) -> None:
    bench = await start(limits=Limits(connections=3))
    opened = [await connect(bench) for _ in range(3)]
    await asyncio.sleep(0.05)
    reader, writer = await connect(bench)
    assert await is_closed(reader, writer)
    opened[0][1].close()
    await asyncio.sleep(0.05)
    assert 'cut_connections_total{reason="connections"} 1.0' in await bench.metrics()
    for _, writer in opened[1:]:
        writer.close()


async def test_headers_that_are_too_long_are_refused(start) -> None:
    bench = await start()
    bench.upstream.answers(completion("fine"))
    async with bench.client.get(f"{bench.url}/v1/models", headers={"X": "y" * 9_000}) as answer:
        assert answer.status == 400
