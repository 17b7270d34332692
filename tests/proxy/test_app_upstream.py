"""What a client sees when the upstream fails, stalls or leaves, over real sockets."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from tests.proxy.conftest import chunk, completion, stream_of

HEAD = "version: 1\nname: t\n"


async def test_an_upstream_that_is_down_is_a_502(start) -> None:
    bench = await start(url="http://127.0.0.1:9")
    async with bench.chat() as response:
        assert response.status == 502
        assert "cannot be reached" in (await response.json())["error"]["message"]


async def test_an_upstream_that_is_silent_is_a_504(start) -> None:
    bench = await start(read_timeout_s=0.2)

    async def handler(_):
        await asyncio.sleep(5)
        return web.Response()

    bench.upstream.handler = handler
    async with bench.chat() as response:
        assert response.status == 504


async def test_an_error_of_the_upstream_comes_through(start) -> None:
    bench = await start()
    error = {"error": {"message": "slow down", "type": "rate_limit"}}
    bench.upstream.answers(error, status=429, **{"Retry-After": "7"})
    async with bench.chat() as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
        assert await response.json() == error


async def test_an_answer_that_is_not_json_is_refused_when_the_policy_fails_closed(start) -> None:
    bench = await start()

    async def handler(_):
        return web.Response(text="<html>BAD</html>")

    bench.upstream.handler = handler
    async with bench.chat() as response:
        assert response.status == 502
        assert b"BAD" not in await response.read()


async def test_an_answer_that_is_too_large_is_refused(start) -> None:
    bench = await start(max_response_bytes=2_000)
    bench.upstream.answers(completion("x" * 5_000))
    async with bench.chat() as response:
        assert response.status == 502


async def test_a_stream_that_is_cut_ends_properly_after_what_was_cleared(start) -> None:
    bench = await start()
    bench.upstream.streams([chunk("hello "), chunk("world "), b'data: {"choi'], cut=True)
    async with bench.chat(stream=True) as response:
        data = (await response.read()).decode()
    assert "hello" in data
    assert '{"choi\n' not in data
    assert data.endswith("\n\n")
    assert "error" in data


async def test_a_malformed_frame_ends_the_stream_and_nothing_of_it_leaves(start) -> None:
    bench = await start()
    bench.upstream.streams([chunk("hello "), b"data: {BAD\n\n", *stream_of("more")])
    async with bench.chat(stream=True) as response:
        data = (await response.read()).decode()
    assert "BAD" not in data
    assert "more" not in data


async def test_a_client_that_leaves_closes_the_upstream_long_before_its_end(start) -> None:
    bench = await start()
    bench.upstream.streams(stream_of(*(["word "] * 2_000)), pause_s=0.01)
    response = await bench.chat(stream=True)
    await response.content.read(10)
    response.close()
    await asyncio.wait_for(bench.upstream.disconnected.wait(), 10.0)


async def test_a_slow_client_stops_the_upstream_instead_of_filling_memory(start) -> None:
    bench = await start()
    sent = 0

    async def handler(request):
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(chunk("y" * 10_000))
            sent += 1
        return response

    bench.upstream.handler = handler
    response = await bench.chat(stream=True)
    await response.content.read(10)
    before = -1
    while before != sent:  # until nothing moves for a second: the buffers are full
        before = sent
        await asyncio.sleep(1.0)
    assert sent < 3_500
    response.close()


async def test_an_unchecked_answer_that_is_cut_is_not_passed_off_as_whole(start, caplog) -> None:
    import aiohttp

    bench = await start(HEAD + "categories: {}")
    bench.upstream.streams([chunk("hello")], cut=True)
    with pytest.raises(aiohttp.ClientError):
        async with bench.chat(stream=True) as response:
            await response.read()
    assert "Traceback" not in caplog.text


async def test_a_stream_without_an_end_mark_is_whole_once_its_choice_has_finished(start) -> None:
    bench = await start()
    chunks = stream_of("fine words")[:-1]
    bench.upstream.streams(chunks)
    async with bench.chat(stream=True) as response:
        assert await response.read() == b"".join(chunks)
