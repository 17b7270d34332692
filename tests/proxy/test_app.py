"""What the proxy promises, over real sockets."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from guardrail.proxy.logs import JsonFormatter
from tests.proxy.conftest import POLICY, completion, stream_of

HEAD = "version: 1\nname: t\n"


async def test_a_harmless_answer_comes_through_byte_for_byte(start) -> None:
    bench = await start()
    raw = b'{ "choices":[{"index":0,"message":{"role":"assistant","content":"h\\u00e9"}}],"x":1.0}'

    async def handler(_):
        return web.Response(body=raw, content_type="application/json", headers={"x-up": "1"})

    bench.upstream.handler = handler
    async with bench.chat() as response:
        assert await response.read() == raw
        assert response.headers["x-up"] == "1"
        assert response.headers["x-guardrail-action"] == "pass"
        assert response.headers["x-guardrail-policy"].startswith("t@")
        assert response.headers["x-guardrail-request-id"]


async def test_the_request_reaches_the_upstream_byte_for_byte(start) -> None:
    bench = await start()
    bench.upstream.answers(completion("hello"))
    body = (
        b'{"model": "m",\n "messages": [{"role":"user","content":"h\\u00e9"}], "unknown": [1, 2]}'
    )
    headers = {"Authorization": "Bearer k", "X-Custom": "v", "Content-Type": "application/json"}
    url = f"{bench.url}/v1/chat/completions?api-version=1"
    async with bench.client.post(url, data=body, headers=headers) as response:
        assert response.status == 200
    method, path, sent, raw = bench.upstream.requests[0]
    assert (method, path, raw) == ("POST", "/v1/chat/completions?api-version=1", body)
    assert sent["Authorization"] == "Bearer k"
    assert sent["X-Custom"] == "v"


@pytest.mark.parametrize(("style", "status"), [("400", 400), ("403", 403), ("200", 200)])
async def test_a_blocked_request_never_reaches_the_upstream(start, style, status) -> None:
    from guardrail.wire import RefusalStyle

    bench = await start(refusal=RefusalStyle(style))
    async with bench.chat("BAD") as response:
        body = await response.json()
        assert response.status == status
        assert response.headers["x-guardrail-action"] == "block"
        assert response.headers["x-guardrail-categories"] == "unsafe"
    if status == 200:
        assert body["choices"][0]["message"]["content"] == "no way"
        assert body["choices"][0]["finish_reason"] == "content_filter"
    else:
        assert body["error"]["code"] == "content_filter"
        assert body["error"]["message"] == "no way"
    assert not bench.upstream.requests


async def test_a_flagged_request_passes_and_says_so(start) -> None:
    bench = await start()
    bench.upstream.answers(completion("hello"))
    async with bench.chat("MEH") as response:
        assert response.status == 200
        assert response.headers["x-guardrail-action"] == "flag"
    assert len(bench.upstream.requests) == 1


async def test_a_harmful_answer_is_replaced_and_keeps_its_usage(start) -> None:
    bench = await start()
    bench.upstream.answers(completion("this is BAD"))
    async with bench.chat() as response:
        body = await response.json()
        assert response.headers["x-guardrail-action"] == "block"
    assert body["choices"][0]["finish_reason"] == "content_filter"
    assert "BAD" not in json.dumps(body)
    assert body["usage"]["total_tokens"] == 5


async def test_a_flagged_answer_passes_and_says_so(start) -> None:
    bench = await start()
    bench.upstream.answers(completion("MEH"))
    async with bench.chat() as response:
        assert (await response.json())["choices"][0]["message"]["content"] == "MEH"
        assert response.headers["x-guardrail-action"] == "flag"


async def test_a_harmless_stream_comes_through_byte_for_byte(start) -> None:
    bench = await start()
    chunks = [b": ping\n\n", *stream_of(*(f"word{n} " for n in range(80)))]
    bench.upstream.streams(chunks)
    async with bench.chat(stream=True) as response:
        assert await response.read() == b"".join(chunks)
        assert response.content_type == "text/event-stream"


async def test_the_parts_of_a_streamed_answer_say_where_they_stand(start, marker) -> None:
    bench = await start()
    text = [f"word{n} " for n in range(80)]
    for _ in range(2):
        bench.upstream.streams(stream_of(*text))
        async with bench.chat(stream=True) as response:
            await response.read()
    parts = [sample for sample in marker.seen if sample.place is not None]
    assert len({sample.place.stream for sample in parts}) == 2
    first = [s for s in parts if s.place.stream is parts[0].place.stream]
    whole = "".join(text)
    assert len(first) > 3
    for sample in first:
        assert whole[sample.place.start :].startswith(sample.text)
        assert whole[: sample.place.start].endswith(sample.context)
    assert first[-1].place.start + len(first[-1].text) == len(whole)


async def test_harmful_text_never_leaves_a_held_stream(start) -> None:
    bench = await start()
    bench.upstream.streams(stream_of(*(["fine words "] * 40), "B", "A", "D", *(["more "] * 40)))
    async with bench.chat(stream=True) as response:
        data = (await response.read()).decode()
    events = [json.loads(e[6:]) for e in data.split("\n\n") if e.startswith("data: {")]
    text = "".join(e["choices"][0]["delta"].get("content") or "" for e in events)
    assert text.startswith("fine words fine words")
    assert "BA" not in text
    assert "more" not in text
    assert events[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert data.endswith("data: [DONE]\n\n")
    assert ': guardrail {"action": "block"' in data or ': guardrail {"action":"block"' in data


async def test_trail_mode_cuts_after_the_verdict_and_counts_the_exposure(start) -> None:
    policy = HEAD + "stream: {mode: trail}\ncategories: {unsafe: {block: 0.9}}"
    bench = await start(policy)
    bench.upstream.streams(stream_of("BAD ", *(["more "] * 200)), pause_s=0.005)
    async with bench.chat(stream=True) as response:
        data = (await response.read()).decode()
    assert "BAD" in data
    assert "content_filter" in data
    assert data.count("more") < 100
    async with bench.client.get(f"{bench.url}/metrics") as response:
        assert "guardrail_exposed_chars_total" in await response.text()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_monitoring_policy_changes_nothing_but_counts(start, stream) -> None:
    bench = await start(HEAD + "mode: monitor\ncategories: {unsafe: {block: 0.9}}")
    if stream:
        bench.upstream.streams(stream_of("BAD"))
    else:
        bench.upstream.answers(completion("BAD"))
    async with bench.chat("BAD", stream=stream) as response:
        assert response.status == 200
        assert b"BAD" in await response.read()
    async with bench.client.get(f"{bench.url}/metrics") as response:
        metrics = await response.text()
    assert 'guardrail_verdicts_total{action="block",direction="input"} 1.0' in metrics
    assert 'guardrail_verdicts_total{action="block",direction="output"} 1.0' in metrics


async def test_a_parallel_input_check_blocks_before_anything_of_the_answer_leaves(start) -> None:
    bench = await start(HEAD + "input: {check: parallel}\ncategories: {unsafe: {block: 0.9}}")
    bench.upstream.streams(stream_of("secret answer"))
    async with bench.chat("BAD", stream=True) as response:
        assert response.status == 400
        assert b"secret" not in await response.read()


async def test_a_policy_without_rules_forwards_everything(start) -> None:
    bench = await start(HEAD + "categories: {}")
    bench.upstream.streams(stream_of("BAD"))
    async with bench.chat("BAD", stream=True) as response:
        assert await response.read() == b"".join(stream_of("BAD"))


async def test_a_checker_that_fails_blocks_with_a_valid_answer(start) -> None:
    bench = await start()
    bench.upstream.answers(completion("BOOM"))
    async with bench.chat() as response:
        body = await response.json()
    assert body["choices"][0]["finish_reason"] == "content_filter"
    async with bench.chat("BOOM") as response:
        assert response.status == 400
    async with bench.client.get(f"{bench.url}/metrics") as response:
        metrics = await response.text()
    assert "guardrail_check_failures_total{" in metrics


async def test_two_hundred_streams_do_not_mix(start) -> None:
    bench = await start()

    async def handler(request):
        number = (await request.json())["messages"][0]["content"]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for data in stream_of(*([f"<{number}>"] * 30)):
            await response.write(data)
            await asyncio.sleep(0)
        return response

    bench.upstream.handler = handler

    async def one(number: int) -> None:
        async with bench.chat(f"n{number}", stream=True) as response:
            data = (await response.read()).decode()
        assert data.count(f"<n{number}>") == 30
        assert data.count("<n") == 30

    await asyncio.gather(*(one(n) for n in range(200)))


async def test_health_and_readiness_say_what_is_in_force(start) -> None:
    bench = await start()
    async with bench.client.get(f"{bench.url}/health/live") as response:
        assert response.status == 200
    async with bench.client.get(f"{bench.url}/health/ready") as response:
        body = await response.json()
    assert body["policy"].startswith("t@")
    assert body["model"] == "marker@0"


async def test_no_text_and_no_key_reaches_the_log(start, caplog) -> None:
    caplog.set_level("DEBUG")
    bench = await start()
    bench.upstream.answers(completion("zebra answer BOOM"))
    body = {"messages": [{"role": "user", "content": "yak question"}]}
    headers = {"Authorization": "Bearer sk-hidden"}
    url = f"{bench.url}/v1/chat/completions"
    async with bench.client.post(url, json=body, headers=headers) as response:
        await response.read()
    told = "".join(map(JsonFormatter().format, caplog.records))
    assert "openai.chat" in told
    for secret in ("zebra", "yak", "sk-hidden"):
        assert secret not in told
        assert secret not in caplog.text


def test_the_unit_policy_is_what_the_tests_think() -> None:
    from guardrail.policy import parse_policy

    assert parse_policy(POLICY).rules[0].block == 0.9


async def test_parts_that_cannot_be_judged_pass_and_are_counted(start) -> None:
    bench = await start()
    bench.upstream.answers(completion("a cat"))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "what is this?"}, image]
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    async with bench.client.post(f"{bench.url}/v1/chat/completions", json=body) as response:
        assert response.status == 200
    async with bench.client.get(f"{bench.url}/metrics") as response:
        assert 'guardrail_bypasses_total{reason="part"} 1.0' in await response.text()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("OPTIONS", "/v1/responses/r1", 204),
        ("OPTIONS", "/v1/conversations", 204),
        ("HEAD", "/v1/responses/r1", 200),
        ("GET", "/v1/responses/r1", 304),
        ("DELETE", "/v1/chat/completions/c1", 204),
    ],
)
async def test_an_answer_without_a_body_passes(start, method, path, status) -> None:
    bench = await start()

    async def nothing(_: web.Request) -> web.Response:
        return web.Response(status=status)

    bench.upstream.handler = nothing
    async with bench.client.request(method, bench.url + path) as response:
        assert (response.status, await response.read()) == (status, b"")
