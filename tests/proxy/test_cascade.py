"""The cascade through the proxy: streams wait only where they must, and the metrics say so."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest

from guardrail.errors import PolicyError
from tests.guard_server import guard_server, logprobs, text_of
from tests.proxy.conftest import chunk


def policy(url: str, more: str = "") -> str:
    return (
        "version: 1\nname: t\nmessage: no way\nnormalise: false\n"
        f"guards: {{big: {{kind: openai_logprobs, url: '{url}', model: m, timeout_ms: 9000"
        f"{more}}}}}\n"
        "categories: {unsafe: {block: 0.6, review: [0.2, 0.4], "
        "escalate: {band: [0.5, 0.9], guard: big}}}\n"
        "stream: {first_chars: 10, stride_chars: 40, lookahead_chars: 0, context_chars: 8}"
    )  # fmt: skip


def answer(_, body):
    return 200, logprobs(0.95 if "WORSE" in text_of(body) else 0.3), {}


class Held:
    """An answer that waits until the test lets it go."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    def __call__(self, path, body):
        if "MEH" in text_of(body):
            self.asked.set()
            self.go.wait(8)
        return answer(path, body)


async def read(bench, found: list[str] | None = None) -> str:
    """Return the text of one streamed answer, and collect it as it comes."""
    found = [] if found is None else found
    async with bench.chat("hello", stream=True) as response:
        async for data in response.content.iter_any():
            found += re.findall(r'"content": "([^"]*)"', data.decode())
    return "".join(found)


BEFORE = ["this is all fine. "] * 6
AFTER = [" and so is this here. "] * 4


async def test_only_the_window_in_question_waits_for_the_guard(start) -> None:
    held = Held()
    with guard_server(held) as server:
        bench = await start(policy(server.url))
        bench.upstream.streams([chunk(t) for t in [*BEFORE, "MEH", *AFTER]], 0.005)
        came: list[str] = []
        stream = asyncio.ensure_future(read(bench, came))
        await asyncio.to_thread(held.asked.wait, 8)
        await asyncio.sleep(0.1)
        early = "".join(came)
        assert early.startswith(BEFORE[0] * 2), "what was judged before has left"
        assert "MEH" not in early
        held.go.set()
        assert await stream == "".join([*BEFORE, "MEH", *AFTER])


async def test_other_streams_do_not_wait(start) -> None:
    held = Held()
    with guard_server(held) as server:
        bench = await start(policy(server.url))
        bench.upstream.streams([chunk(t) for t in [*BEFORE, "MEH", *AFTER]])
        slow = asyncio.ensure_future(read(bench))
        await asyncio.to_thread(held.asked.wait, 8)
        bench.upstream.streams([chunk(t) for t in [*BEFORE, "fine", *AFTER]])
        for text in await asyncio.gather(*(read(bench) for _ in range(5))):
            assert "fine" in text
        assert not slow.done()
        held.go.set()
        assert "MEH" in await slow


async def test_what_the_guard_finds_ends_the_stream_before_it_leaves(start) -> None:
    with guard_server(answer) as server:
        bench = await start(policy(server.url))
        bench.upstream.streams([chunk(t) for t in [*BEFORE, "MEH WORSE", *AFTER]], 0.005)
        text = await read(bench)
    assert "MEH" not in text
    assert "and so" not in text


async def test_the_guard_s_time_bounds_the_wait_and_then_the_failure_mode_decides(start) -> None:
    held = Held()
    with guard_server(held) as server:
        bench = await start(policy(server.url).replace("9000", "200"))
        bench.upstream.streams([chunk(t) for t in [*BEFORE, "MEH", *AFTER]], 0.005)
        text = await asyncio.wait_for(read(bench), 8)
        held.go.set()
        async with bench.client.get(f"{bench.url}/metrics") as response:
            metrics = await response.text()
    assert "MEH" not in text
    assert 'guardrail_escalations_total{guard="big",result="timeout"} 1.0' in metrics


async def test_requests_and_reviews_are_counted(start) -> None:
    with guard_server(answer) as server:
        bench = await start(policy(server.url))
        bench.upstream.answers({"choices": []})
        async with bench.chat("MEH but fine") as response:
            assert response.status == 200
        async with bench.chat("MEH and WORSE") as response:
            assert response.status == 400
        async with bench.client.get(f"{bench.url}/metrics") as response:
            metrics = await response.text()
    assert 'guardrail_escalations_total{guard="big",result="answered"} 2.0' in metrics
    assert 'guardrail_reviews_total{direction="input"} 1.0' in metrics
    assert 'guardrail_guard_seconds_count{guard="big"} 2.0' in metrics


async def test_the_proxy_does_not_start_with_a_guard_that_does_not_answer(start) -> None:
    with pytest.raises(PolicyError, match=r"guards\.big"):
        await start(policy("http://127.0.0.1:9/v1"))
    bench = await start(policy("http://127.0.0.1:9/v1", ", probe: false"))
    async with bench.chat("MEH") as response:
        assert response.status == 400
    async with bench.chat("fine") as response:
        assert response.status != 400


async def test_no_request_can_name_a_guard_or_its_address(start) -> None:
    with guard_server(answer) as server, guard_server(answer) as evil:
        bench = await start(policy(server.url))
        bench.upstream.answers({"choices": []})
        guards = {"big": {"kind": "openai_logprobs", "url": evil.url, "model": "m"}}
        async with bench.chat("MEH", guards=guards, guard="big", url=evil.url) as response:
            await response.read()
        assert not evil.asked
        assert len(server.asked) == 2
