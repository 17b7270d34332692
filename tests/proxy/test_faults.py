"""Scripted faults of clients, of the classifier and of the machine, each with its outcome."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

import pytest
from aiohttp import web

from guardrail.classifier.base import Sample
from guardrail.types import Scores
from tests.conftest import MarkerClassifier

from .conftest import POLICY, completion, stream_of
from .test_connections import connect
from .test_faults_upstream import well

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
FLAG = "version: 1\nname: t\ncategories: {unsafe: {flag: 0.5}}"


def request(body: bytes = BODY, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + body


# --- clients -------------------------------------------------------------------------------------


async def test_a_body_that_does_not_come_is_408(start) -> None:
    bench = await start(read_timeout_s=0.3)
    reader, writer = await connect(bench)
    writer.write(request(BODY[:10], length=len(BODY)))
    assert b" 408 " in await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    await well(bench)


async def test_a_body_that_does_not_come_on_an_unguarded_path_is_408(start) -> None:
    bench = await start(read_timeout_s=0.3)
    reader, writer = await connect(bench)
    writer.write(request(b"{", length=50).replace(b"chat/completions", b"files"))
    assert b" 408 " in await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    await well(bench)


@pytest.mark.parametrize("phase", ["headers", "body", "upstream", "stream"])
async def test_a_client_that_leaves_is_noticed_in_each_phase(start, phase) -> None:
    bench = await start()

    async def handler(client: web.Request) -> web.StreamResponse:
        if phase == "upstream":
            await asyncio.sleep(30)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(client)
        while True:
            await response.write(stream_of("word word word word word ")[0])
            await asyncio.sleep(0.01)

    bench.upstream.handler = handler
    reader, writer = await connect(bench)
    if phase == "headers":
        writer.write(request()[:30])
    elif phase == "body":
        writer.write(request(BODY[:10], length=len(BODY)))
    else:
        writer.write(request())
    if phase == "stream":
        await asyncio.wait_for(reader.read(10), 20)
    await asyncio.sleep(0.1)
    writer.transport.abort()
    if phase in ("upstream", "stream"):
        await asyncio.wait_for(bench.upstream.disconnected.wait(), 20)
    else:
        assert not bench.upstream.requests
    await well(bench)


async def test_a_client_that_leaves_while_its_request_is_judged_never_reaches_the_upstream(
    start, marker
) -> None:
    marker.score = Slow(0.3).score
    bench = await start()
    bench.upstream.answers(completion("fine"))
    _, writer = await connect(bench)
    writer.write(request())
    await asyncio.sleep(0.1)
    writer.transport.abort()
    await asyncio.sleep(0.5)
    assert not bench.upstream.requests
    await well(bench)


async def test_requests_in_one_packet_are_answered_in_order(start) -> None:
    bench = await start()
    bench.upstream.answers(completion("fine"))
    reader, writer = await connect(bench)
    bad = BODY.replace(b"hi", b"BAD")
    writer.write(request() + request(bad) + request())
    got = b""
    async with asyncio.timeout(20):
        while got.count(b"HTTP/1.1 ") < 3:
            got += await reader.read(4096)
    assert [int(part[:3]) for part in got.split(b"HTTP/1.1 ")[1:]] == [200, 400, 200]
    writer.close()
    await well(bench)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 50,
        b"POST / HTTP/9.9\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        b"Content-Length: 6\r\n\r\nhello!",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
        + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"fffffffffffffffffff\r\n",
    ],
    ids=["tls", "version", "both lengths", "two lengths", "negative", "many headers", "huge chunk"],
)  # fmt: skip
async def test_bytes_that_are_no_honest_http_are_400_and_reach_nobody(start, data) -> None:
    bench = await start()
    reader, writer = await connect(bench)
    writer.write(data)
    assert b" 400 " in await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    assert not bench.upstream.requests
    await well(bench)


# --- the classifier ------------------------------------------------------------------------------


class Slow(MarkerClassifier):
    """Takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        time.sleep(self.seconds)
        return super().score(samples)


def short(samples: Sequence[Sample]) -> list[Scores]:
    return []


def raises(samples: Sequence[Sample]) -> list[Scores]:
    raise MemoryError


def wrong(samples: Sequence[Sample]) -> list[Scores]:
    return [Scores({"hate": 0.0}, "other") for _ in samples]


FAULTS = {"too few results": short, "an error": raises, "no score of a rule": wrong}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize(("policy", "status"), [(POLICY, 400), (FLAG, 200)])
async def test_a_classifier_that_fails_follows_the_failure_mode_and_is_counted(
    start, marker, name, policy, status
) -> None:
    marker.score = FAULTS[name]
    bench = await start(policy)
    bench.upstream.answers(completion("fine"))
    async with bench.chat() as answer:
        assert answer.status == status
    assert "guardrail_check_failures_total{" in await bench.metrics()
    await well(bench)


@pytest.mark.parametrize(("policy", "status"), [(POLICY, 400), (FLAG, 200)])
async def test_a_classifier_that_hangs_is_a_time_out_by_the_failure_mode(
    start, marker, policy, status
) -> None:
    marker.score = Slow(0.6).score
    bench = await start(policy + "\ntimeout_ms: 100")
    bench.upstream.answers({"choices": []})
    async with bench.chat() as answer:
        assert answer.status == status
    await asyncio.sleep(0.6)
    await well(bench)


async def test_a_classifier_that_fails_in_a_stream_ends_it_as_filtered(start, marker) -> None:
    bench = await start()
    bench.upstream.streams(stream_of(*["fine words here "] * 40, "BOOM", *["and more "] * 40))
    async with bench.chat(stream=True) as answer:
        data = await answer.read()
    assert b"content_filter" in data
    assert b"BOOM" not in data
    await well(bench)


# --- the machine ---------------------------------------------------------------------------------


async def test_a_clock_that_jumps_changes_nothing(start, monkeypatch) -> None:
    bench = await start()
    real = time.time
    bench.upstream.streams(stream_of(*["fine words here "] * 30), pause_s=0.01)
    async with bench.chat(stream=True) as answer:
        first = await answer.content.read(50)
        monkeypatch.setattr(time, "time", lambda: real() - 86_400 * 365)
        rest = await answer.read()
    assert first + rest == b"".join(stream_of(*["fine words here "] * 30))
    await well(bench)


async def test_a_loop_that_stalls_is_measured(start) -> None:
    bench = await start()
    await asyncio.sleep(0.05)
    time.sleep(0.6)  # noqa: ASYNC251  (the fault itself)
    await asyncio.sleep(0.3)
    text = await bench.metrics()
    late = [line for line in text.splitlines() if "loop_lag_seconds_sum" in line]
    assert float(late[0].split()[1]) > 0.2
