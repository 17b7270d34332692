"""What `/metrics` promises: what an operator needs is there, and adds up."""

from __future__ import annotations

import pytest

from .conftest import completion, stream_of

NEEDED = (
    "guardrail_requests_total",
    "guardrail_verdicts_total",
    "guardrail_findings_total",
    "guardrail_check_seconds_bucket",
    "guardrail_first_token_delay_seconds_bucket",
    "guardrail_held_chars_bucket",
    "guardrail_held_seconds_bucket",
    "guardrail_queued_chars",
    "guardrail_expected_wait_seconds",
    "guardrail_errors_total",
    "guardrail_loop_lag_seconds_bucket",
    "guardrail_open_connections",
)


def value(text: str, name: str) -> float:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


async def test_what_an_operator_needs_is_there(start) -> None:
    bench = await start()
    bench.upstream.streams(stream_of(*["all is well here "] * 9), pause_s=0.03)
    async with bench.chat(stream=True) as answer:
        await answer.read()
    async with bench.chat("BAD") as answer:
        await answer.read()
    async with bench.client.post(f"{bench.url}/v1/chat/completions", data=b"{") as answer:
        assert answer.status == 400
    text = await bench.metrics()
    for name in NEEDED:
        assert f"\n{name}" in text, name
    assert 'guardrail_errors_total{error="WireError"} 1.0' in text
    assert value(text, "guardrail_first_token_delay_seconds_count") == 1
    assert 0 < value(text, "guardrail_first_token_delay_seconds_sum") < 5
    assert value(text, "guardrail_request_seconds_count") == 3


async def test_a_whole_answer_has_no_first_token(start) -> None:
    bench = await start()
    bench.upstream.answers(completion("fine"))
    async with bench.chat() as answer:
        await answer.read()
    assert value(await bench.metrics(), "guardrail_first_token_delay_seconds_count") == 0


@pytest.mark.parametrize("path", ["/metrics", "/health/live", "/health/ready"])
async def test_the_proxy_s_own_pages_are_not_counted_as_requests(start, path) -> None:
    bench = await start()
    async with bench.client.get(bench.url + path) as answer:
        await answer.read()
    assert "guardrail_requests_total{" not in await bench.metrics()
