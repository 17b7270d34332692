"""The same enforcement on every dialect, direction, form and channel, over real sockets."""

from __future__ import annotations

import json

import pytest

from guardrail.proxy import Announce
from guardrail.types import ChannelKind
from guardrail.wire import WIRES
from tests.proxy.dialects import (
    CHAT,
    NO_INPUT,
    NO_STREAM,
    NONE,
    PATHS,
    REQUESTS,
    STREAMS,
    TEXT,
    WHOLES,
)
from tests.wire.sdk import READERS

OUTPUT_KINDS = [kind for kind in ChannelKind if kind is not ChannelKind.TOOL_RESULT]
ALL = (
    "version: 1\nname: t\ninput: {turns: all, roles: [system, user, assistant, tool]}\n"
    "message: no way\ncategories: {unsafe: {flag: 0.5, block: 0.9}}"
)


def test_every_dialect_and_channel_has_its_rows() -> None:
    """Adding a dialect or a channel without rows here must fail."""
    answers = {(name, kind) for name in WIRES for kind in OUTPUT_KINDS}
    assert set(STREAMS) | NONE | NO_STREAM == answers == set(WHOLES) | NONE
    assert not (set(STREAMS) | set(WHOLES)) & NONE
    assert not set(STREAMS) & NO_STREAM
    requests = {(name, kind) for name in WIRES for kind in ChannelKind}
    assert set(REQUESTS) | NO_INPUT == requests
    assert not set(REQUESTS) & NO_INPUT
    assert set(PATHS) == set(WIRES)


def body_for(name: str, stream: bool) -> dict[str, object]:
    made = REQUESTS[name, TEXT]("hello")
    return {**made, "stream": True} if stream else made


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("key", list(REQUESTS), ids=lambda k: f"{k[0]}-{k[1]}")
async def test_a_harmful_input_is_refused(start, key, stream) -> None:
    bench = await start(ALL)
    name, _ = key
    made = {**REQUESTS[key]("this is BAD"), **({"stream": True} if stream else {})}
    async with bench.client.post(bench.url + PATHS[name], json=made) as response:
        body = await response.json()
        assert response.status == 400, body
        assert response.headers["x-guardrail-action"] == "block"
    error = body["error"]
    assert error["message"] == "no way"
    assert "content_filter" in json.dumps(body) or body["type"] == "error"
    assert not bench.upstream.requests


@pytest.mark.parametrize("key", list(REQUESTS), ids=lambda k: f"{k[0]}-{k[1]}")
async def test_a_harmless_input_reaches_the_upstream_byte_for_byte(start, key) -> None:
    bench = await start(ALL)
    bench.upstream.answers({"error": "over"}, status=500)
    raw = json.dumps(REQUESTS[key]("fine"), indent=1).encode()
    async with bench.client.post(bench.url + PATHS[key[0]], data=raw) as response:
        assert response.status == 500
    assert bench.upstream.requests[0][3] == raw


@pytest.mark.parametrize("key", list(WHOLES), ids=lambda k: f"{k[0]}-{k[1]}")
async def test_a_whole_answer_passes_or_is_replaced(start, key) -> None:
    bench = await start()
    url, make = bench.url + PATHS[key[0]], WHOLES[key]
    bench.upstream.answers(make('{"a": "fine"}'))
    async with bench.client.post(url, json=body_for(key[0], False)) as response:
        assert await response.json() == make('{"a": "fine"}')
    bench.upstream.answers(make('{"a": "BAD"}'))
    async with bench.client.post(url, json=body_for(key[0], False)) as response:
        raw = await response.text()
        assert response.headers["x-guardrail-action"] == "block"
    assert "BAD" not in raw
    assert any(word in raw for word in ("content_filter", '"refusal"'))


@pytest.mark.parametrize("key", list(STREAMS), ids=lambda k: f"{k[0]}-{k[1]}")
async def test_a_streamed_answer_passes_byte_for_byte(start, key) -> None:
    bench = await start()
    chunks = STREAMS[key]([f"word{n} " for n in range(60)])
    bench.upstream.streams(chunks)
    url = bench.url + PATHS[key[0]]
    async with bench.client.post(url, json=body_for(key[0], True)) as response:
        assert await response.read() == b"".join(chunks)


@pytest.mark.parametrize("key", [(CHAT, TEXT)])
async def test_a_flagged_stream_says_so_in_a_comment(start, key) -> None:
    bench = await start()
    bench.upstream.streams(STREAMS[key](["fine MEH fine"]))
    async with bench.client.post(bench.url + PATHS[key[0]], json=body_for(CHAT, True)) as made:
        lines = (await made.text()).split("\n\n")
    comments = [line for line in lines if line.startswith(": guardrail")]
    assert len(comments) == 1
    assert json.loads(comments[0].removeprefix(": guardrail "))["action"] == "flag"


@pytest.mark.parametrize("announce", list(Announce))
@pytest.mark.parametrize("key", list(STREAMS), ids=lambda k: f"{k[0]}-{k[1]}")
async def test_the_official_clients_read_a_flagged_or_blocked_stream(start, key, announce) -> None:
    bench = await start(announce=announce)
    for word in ("MEH", "BAD"):
        bench.upstream.streams(STREAMS[key]([f'{{"a": "fine {word} fine"}}']))
        url = bench.url + PATHS[key[0]]
        async with bench.client.post(url, json=body_for(key[0], True)) as response:
            data = await response.read()
        assert (b'"action"' in data) is (announce is not Announce.NONE)
        assert (b": guardrail" in data) is (announce is Announce.COMMENT)
        assert READERS[key[0]](data)
