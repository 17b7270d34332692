"""What happens when too much is in progress: the policy's failure mode, early and counted."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from guardrail.check import Checker
from guardrail.policy import parse_policy
from guardrail.proxy import Limits
from guardrail.proxy.admission import Admission, Overload, fails_closed

from .conftest import POLICY, completion

OPEN = "version: 1\nname: t\ncategories: {unsafe: {flag: 0.5}}"


async def slow_answers(bench) -> asyncio.Event:
    """Let the upstream answer only once the event is set."""
    go = asyncio.Event()

    async def handler(_: object) -> aiohttp.web.StreamResponse:
        await go.wait()
        return aiohttp.web.json_response(completion("fine"))

    bench.upstream.handler = handler
    return go


async def status(bench, **more: object) -> tuple[int, str | None]:
    async with bench.chat(**more) as answer:
        await answer.read()
        return answer.status, answer.headers.get("Retry-After")


async def test_a_request_too_many_is_503_with_retry_after_where_the_policy_fails_closed(
    start,
) -> None:
    bench = await start(limits=Limits(concurrency=2))
    go = await slow_answers(bench)
    first = [asyncio.create_task(status(bench)) for _ in range(2)]
    while len(bench.upstream.requests) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await status(bench) == (503, "1")
    async with bench.client.post(f"{bench.url}/v1/moderations", json={"input": "x"}) as answer:
        assert answer.status == 503
    go.set()
    assert await asyncio.gather(*first) == [(200, None)] * 2
    assert await status(bench) == (200, None)
    text = await bench.metrics()
    assert 'guardrail_shed_total{action="refused",reason="concurrency"} 2.0' in text
    assert 'guardrail_requests_total{dialect="openai.chat",result="shed"} 1.0' in text


async def test_a_request_too_many_passes_and_is_counted_where_the_policy_fails_open(start) -> None:
    bench = await start(OPEN, limits=Limits(concurrency=1))
    go = await slow_answers(bench)
    tasks = [asyncio.create_task(status(bench)) for _ in range(2)]
    while len(bench.upstream.requests) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    go.set()
    assert await asyncio.gather(*tasks) == [(200, None)] * 2
    text = await bench.metrics()
    assert 'guardrail_bypasses_total{reason="shed"} 1.0' in text
    assert 'guardrail_shed_total{action="passed",reason="concurrency"} 1.0' in text


async def test_the_bodies_of_all_requests_together_are_bounded(start) -> None:
    bench = await start(limits=Limits(body_memory_bytes=100_000))
    go = await slow_answers(bench)
    first = asyncio.create_task(status(bench, user="x" * 60_000))
    while not bench.upstream.requests:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert (await status(bench, user="x" * 60_000))[0] == 503
    go.set()
    assert (await first)[0] == 200
    assert (await status(bench, user="x" * 60_000))[0] == 200
    assert bench.proxy.admission.body_bytes == 0


class Waiting(Checker):
    """A checker with a queue that a test makes up."""

    wait_s = 0.0

    @property
    def expected_wait_s(self) -> float:
        return self.wait_s


@pytest.mark.parametrize(("wait_s", "retry_s"), [(0.6, 1), (4.2, 5), (500.0, 30)])
async def test_a_wait_that_would_end_in_a_time_out_is_refused_before_it_begins(
    marker, wait_s, retry_s
) -> None:
    policy = parse_policy(POLICY + "\ntimeout_ms: 1000")
    async with Waiting(marker) as checker:
        admission = Admission(checker, Limits())
        checker.wait_s = 0.4
        with admission.enter(policy):
            assert admission.in_progress == 1
        checker.wait_s = wait_s
        with pytest.raises(Overload) as caught, admission.enter(policy):
            pass
    assert (caught.value.reason, caught.value.retry_s) == ("wait", retry_s)
    assert admission.in_progress == 0


@pytest.mark.parametrize(
    ("policy", "closed"),
    [
        (POLICY, True),
        (OPEN, False),
        (POLICY + "\nfailure: {block: open}", False),
        (POLICY + "\nmode: monitor", False),
        ("version: 1\nname: t\ncategories: {unsafe: {direction: output, block: 0.9}}", True),
    ],
)
def test_the_policy_says_what_turning_away_means(policy, closed) -> None:
    assert fails_closed(parse_policy(policy)) is closed


def test_a_rule_for_tool_arguments_alone_fails_closed_too() -> None:
    rule = "unsafe: {block: 0.5, channels: [tool_arguments]}"
    assert fails_closed(parse_policy(f"version: 1\nname: t\ncategories: {{{rule}}}"))
