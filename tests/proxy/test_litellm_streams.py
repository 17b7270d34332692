"""Through LiteLLM: streams that break off, by provider or client, and bodies nobody judges."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence

import openai
import pytest
from aiohttp import web

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
pytest.importorskip("litellm", reason="the extra 'integrations' is not installed")

from guardrail.classifier.base import Sample
from guardrail.proxy import Limits
from guardrail.proxy.models import Models
from guardrail.proxy.settings import LITELLM
from guardrail.types import Scores

from .conftest import POLICY, Bench, chunk
from .dialects import COMPLETIONS, PATHS, RESPONSES, STREAMS
from .test_connections import connect
from .test_faults_upstream import well
from .test_http import INPUT, everything

WAIT_S = 20
"""LiteLLM's first request in a process takes seconds."""
PARALLEL = POLICY + "\ntimeout_ms: 20000\ninput: {check: parallel}"
BOTH = pytest.mark.parametrize("policy", [INPUT, POLICY], ids=["copied", "judged"])

pytestmark = pytest.mark.filterwarnings("ignore::Warning")  # of LiteLLM's own making


@pytest.fixture
def routed(start):
    """Start a proxy whose alias `m` leads through LiteLLM to a scripted model API."""

    async def make(policy: str = INPUT, provider: str = "openai", **settings: object) -> Bench:
        upstream = (await start()).upstream  # its proxy is not used
        base = upstream.url + ("/v1" if provider == "openai" else "")
        deployment = {"model": f"{provider}/m", "api_base": base, "api_key": "k"}
        models = Models({"m": (deployment,)})
        bench = await start(policy, url=LITELLM, models=models, **settings)
        bench.upstream = upstream
        return bench

    return make


def asks(path: str = "/v1/chat/completions", text: str = "hi") -> bytes:
    messages = {"messages": [{"role": "user", "content": text}]}
    said = {"/v1/responses": {"input": text}, "/v1/completions": {"prompt": text}}
    body = {"model": "m", "stream": True, **said.get(path, messages)}
    if path == "/v1/messages":
        body["max_tokens"] = 99
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def test_a_provider_that_breaks_off_a_copied_stream_cuts_it(routed) -> None:
    bench = await routed()
    bench.upstream.streams([chunk("one ")] * 3, pause_s=0.05, cut=True)
    got = await everything(bench, asks())
    assert got.count(b"HTTP/1.1 ") == 1
    assert not got.endswith(b"0\r\n\r\n")
    await well(bench)
    text = await bench.metrics()
    assert 'guardrail_upstream_errors_total{kind="broken"} 1.0' in text
    assert 'result="upstream_broken"} 1.0' in text


@BOTH
async def test_a_provider_that_falls_silent_in_a_stream_is_a_time_out(routed, policy) -> None:
    bench = await routed(policy, read_timeout_s=0.5)

    async def handler(client: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(client)
        await response.write(chunk("one "))
        await asyncio.sleep(30)
        return response

    bench.upstream.handler = handler
    close = b"HTTP/1.1\r\nConnection: close\r\n"
    got = await everything(bench, asks().replace(b"HTTP/1.1\r\n", close))
    assert got.count(b"HTTP/1.1 ") == 1
    assert 'guardrail_upstream_errors_total{kind="timeout"} 1.0' in await bench.metrics()
    await asyncio.wait_for(bench.upstream.disconnected.wait(), WAIT_S)


WORDS = ["word word word word word "] * 2000
KEYS = [key for key in STREAMS if key[1] == "text"]


@BOTH
async def test_a_stream_of_responses_is_read_by_the_official_client(routed, policy) -> None:
    bench = await routed(policy)
    key = next(key for key in KEYS if key[0] == RESPONSES)
    bench.upstream.streams(STREAMS[key](["Hello", " there"]))
    async with openai.AsyncOpenAI(base_url=f"{bench.url}/v1", api_key="x") as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        text = "".join([e.delta async for e in stream if e.type == "response.output_text.delta"])
    assert text == "Hello there"


@pytest.mark.parametrize("key", KEYS, ids=lambda k: k[0])
@BOTH
async def test_a_client_that_leaves_a_stream_ends_the_provider_s(routed, policy, key) -> None:
    provider = "anthropic" if "anthropic" in key[0] else "openai"
    bench = await routed(policy, provider)

    bench.upstream.streams(STREAMS[key](WORDS), pause_s=0.01)
    reader, writer = await connect(bench)
    writer.write(asks(PATHS[key[0]]))
    await asyncio.wait_for(reader.readuntil(b"word"), WAIT_S)
    writer.transport.abort()
    await asyncio.wait_for(bench.upstream.disconnected.wait(), WAIT_S)
    await well(bench)


@pytest.mark.parametrize("key", [k for k in KEYS if k[0] != COMPLETIONS], ids=lambda k: k[0])
async def test_a_refusal_ends_a_stream_of_which_nothing_was_read(routed, marker, key) -> None:
    provider = "anthropic" if "anthropic" in key[0] else "openai"
    bench = await routed(PARALLEL, provider)
    bench.upstream.streams(STREAMS[key](WORDS), pause_s=0.01)
    score = marker.score

    def slow(samples: Sequence[Sample]) -> list[Scores]:
        while not bench.upstream.requests:
            time.sleep(0.01)
        time.sleep(0.5)
        return score(samples)

    marker.score = slow
    reader, writer = await connect(bench)
    writer.write(asks(PATHS[key[0]], "BAD"))
    assert b" 400 " in await asyncio.wait_for(reader.readline(), WAIT_S)
    await asyncio.wait_for(bench.upstream.disconnected.wait(), WAIT_S)
    writer.close()
    await well(bench)


UNJUDGED = b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"


async def test_an_unjudged_body_that_does_not_come_is_408(routed) -> None:
    bench = await routed(read_timeout_s=0.3)
    reader, writer = await connect(bench)
    writer.write(UNJUDGED + b"{")
    assert b" 408 " in await asyncio.wait_for(reader.readline(), WAIT_S)
    writer.close()
    await well(bench)


async def test_unjudged_bodies_count_towards_the_memory_of_all(routed) -> None:
    bench = await routed(limits=Limits(body_memory_bytes=100_000))
    reader, writer = await connect(bench)
    writer.write(UNJUDGED + b"x" * 200_000)
    assert b" 503 " in await asyncio.wait_for(reader.readline(), WAIT_S)
    writer.close()
    await well(bench)
