"""Answers that are copied: one head each, and a cut one looks cut; over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from guardrail.wire.openai_chat_stream import ChatStream

from .conftest import POLICY, Bench, chunk, stream_of
from .test_connections import connect
from .test_faults import request
from .test_faults_upstream import HEAD, SSE, chunked, raw, sends, well

__all__ = ["raw"]  # a fixture

INPUT = "version: 1\nname: t\ncategories: {unsafe: {block: 0.9, direction: input}}"
ASKS = request()
FILES = b"GET /v1/files/x/content HTTP/1.1\r\nHost: x\r\n\r\n"
BOTH = pytest.mark.parametrize("policy", [INPUT, POLICY], ids=["copied", "judged"])


async def everything(bench: Bench, data: bytes) -> bytes:
    """Send bytes; return all that comes until the proxy closes the connection."""
    reader, writer = await connect(bench)
    writer.write(data)
    got = b""
    try:
        async with asyncio.timeout(20):
            while piece := await reader.read(65_536):
                got += piece
    finally:
        writer.close()
    return got


BREAKS = {
    "reset": (sends(SSE, chunked(chunk("one ")), reset=True), "broken"),
    "cut in a chunk": (sends(SSE, chunked(chunk("one ")), b"ffff\r\ndata: {"), "broken"),
    "silent": (sends(SSE, chunked(chunk("one ")), stay_s=3), "timeout"),
    "too short": (sends(HEAD + b"Content-Length: 9999\r\n\r\none "), "broken"),
}


@pytest.mark.parametrize("asked", [ASKS, FILES], ids=["guarded", "passed through"])
@pytest.mark.parametrize("name", BREAKS)
async def test_a_copied_answer_that_breaks_off_is_cut_and_counted(start, raw, name, asked) -> None:
    script, kind = BREAKS[name]
    bench = await start(INPUT, url=await raw(script), read_timeout_s=0.4)
    got = await everything(bench, asked)
    assert got.count(b"HTTP/1.1 ") == 1
    assert b"one " in got
    assert not got.endswith(b"0\r\n\r\n")
    text = await bench.metrics()
    assert f'guardrail_upstream_errors_total{{kind="{kind}"}} 1.0' in text
    assert (f'result="upstream_{kind}"}} 1.0' in text) is (asked is ASKS)
    assert 'result="disconnect"' not in text
    await well(bench)


@pytest.mark.parametrize("asked", [ASKS, FILES], ids=["guarded", "passed through"])
async def test_a_client_without_chunks_sees_that_an_answer_is_cut(start, raw, asked) -> None:
    script, _ = BREAKS["cut in a chunk"]
    bench = await start(INPUT, url=await raw(script))
    with pytest.raises(ConnectionResetError):
        await everything(bench, asked.replace(b"HTTP/1.1", b"HTTP/1.0"))
    await well(bench)


@BOTH
async def test_a_fault_behind_an_answer_does_not_make_a_second_one(start, policy) -> None:
    bench = await start(policy)
    bench.upstream.streams(stream_of("fine"))
    opened = bench.proxy.upstream.open

    @asynccontextmanager
    async def opens(*args, **more) -> AsyncIterator[object]:
        async with opened(*args, **more) as answer:
            yield answer
        raise RuntimeError("on closing")

    bench.proxy.upstream.open = opens
    got = await everything(bench, ASKS + ASKS)
    assert got.count(b"HTTP/1.1 ") == 1
    assert got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_an_end_that_cannot_be_written_does_not_make_a_second_answer(
    start, raw, monkeypatch
) -> None:
    def fails(*_: object) -> bytes:
        raise RuntimeError("on ending")

    monkeypatch.setattr(ChatStream, "failure", fails)
    said = chunked(chunk("all of this is fine and has been judged. " * 6))
    bench = await start(url=await raw(sends(SSE, said, said, reset=True)))
    got = await everything(bench, ASKS)
    assert got.count(b"HTTP/1.1 ") == 1
    assert not got.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("path", [b"chat/completions", b"files"])
async def test_a_body_that_cannot_be_decompressed_is_400(start, path) -> None:
    bench = await start()
    got = await everything(
        bench,
        b"POST /v1/" + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    )
    assert got.startswith(b"HTTP/1.1 400 ")
    assert b"cannot be read" in got


async def test_a_damaged_body_ends_its_connection_openly_and_leaves_no_fault(start, caplog) -> None:
    bench = await start()
    got = await everything(
        bench,
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n"
        b"Content-Length: 5\r\n\r\nhello",
    )
    assert got.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nConnection: close\r\n" in got
    assert not [r for r in caplog.records if r.name == "aiohttp.server"]
