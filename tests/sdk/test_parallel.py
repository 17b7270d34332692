"""`input: {check: parallel}` in process: calls beside the check of their input."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import anthropic
import openai
import pytest

from guardrail import Guardrail, GuardrailBlocked, guard, guard_client
from guardrail.classifier import Sample
from guardrail.policy import parse_policy
from guardrail.types import Scores, Verdict
from tests.conftest import MarkerClassifier
from tests.sdk.conftest import POLICY

PARALLEL = parse_policy(f"{POLICY}\ninput: {{check: parallel}}\ntimeout_ms: 5000")
EVIL: Any = [{"role": "user", "content": "BAD"}]
ASKED = ContextVar("ASKED", default="")


class Gated(MarkerClassifier):
    """Scores the input only once the call has begun: a check before the call would time out."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        if not self.begun.wait(10):
            raise TimeoutError
        return super().score(samples)


@pytest.fixture
def gated() -> Gated:
    return Gated()


@pytest.fixture
def rail(gated: Gated) -> Guardrail:
    return Guardrail(PARALLEL, gated)


async def test_a_slow_call_is_cancelled_as_soon_as_its_input_is_blocked(
    rail: Guardrail, gated: Gated
) -> None:
    ended: list[str] = []

    @guard(policy=rail)
    async def chat(prompt: str) -> str:
        gated.begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)  # what it does on its way out is awaited as well
            ended.append(prompt)
        return ""

    with pytest.raises(GuardrailBlocked):
        await asyncio.wait_for(chat("BAD"), 10)
    assert ended == ["BAD"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0  # or the caller's next timeout would misfire


async def test_what_passes_is_returned_and_the_call_stays_in_the_callers_task(
    rail: Guardrail, gated: Gated
) -> None:
    @guard(policy=rail)
    async def chat(prompt: str) -> str:
        gated.begun.set()
        ASKED.set(prompt)
        return f"{asyncio.current_task() is caller}"

    caller = asyncio.current_task()
    assert await chat("fine") == "True"
    assert ASKED.get() == "fine"


async def test_a_call_that_refuses_to_be_cancelled_returns_nothing_all_the_same(
    rail: Guardrail, gated: Gated
) -> None:
    @guard(policy=rail, on_block="message")
    async def chat(prompt: str) -> str:
        gated.begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "an answer"
        return ""

    assert await chat("BAD") == "no way"


async def test_an_exception_of_the_call_ends_the_check(rail: Guardrail, gated: Gated) -> None:
    @guard(policy=rail)
    async def chat(prompt: str) -> str:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        await chat("BAD")
    gated.begun.set()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("text", ["hi", "BAD"])
async def test_cancelling_the_caller_cancels_the_call_and_the_check(
    rail: Guardrail, text: str
) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    @guard(policy=rail)
    async def chat(prompt: str) -> str:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()
        return ""

    task = asyncio.create_task(chat(text))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_caller_cancelled_while_a_block_arrives_stays_cancelled(
    rail: Guardrail, gated: Gated
) -> None:
    leaving = asyncio.Event()

    @guard(policy=rail, on_block="message")
    async def chat(prompt: str) -> str:
        gated.begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            leaving.set()
            await asyncio.sleep(60)
        return ""

    task = asyncio.create_task(chat("BAD"))
    await leaving.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_async_streams_are_fetched_beside_the_check_and_closed_on_a_block(
    rail: Guardrail, gated: Gated
) -> None:
    closed: list[str] = []

    async def words(prompt: str) -> AsyncIterator[str]:
        gated.begun.set()
        try:
            yield "some words "
            yield "and more"
        finally:
            closed.append(prompt)

    generator = guard(policy=rail)(words)
    assert [item async for item in generator("fine")] == ["some words ", "and more"]
    with pytest.raises(GuardrailBlocked):
        await anext(generator("BAD"))

    @guard(policy=rail)
    async def opened(prompt: str) -> AsyncIterator[str]:
        stream = words(prompt)
        await anext(stream)
        return stream

    with pytest.raises(GuardrailBlocked):
        await opened("BAD too")
    assert closed == ["fine", "BAD", "BAD too"]


def test_a_sync_call_runs_beside_the_check_in_its_own_thread(rail: Guardrail, gated: Gated) -> None:
    ran: list[tuple[str, bool]] = []

    @guard(policy=rail, on_block="message")
    def chat(prompt: str) -> str:
        gated.begun.set()
        ran.append((prompt, threading.current_thread() is home))
        return "an answer"

    home = threading.current_thread()
    assert [chat("fine"), chat("BAD")] == ["an answer", "no way"]
    assert ran == [("fine", True), ("BAD", True)]


def test_an_exception_of_a_sync_call_passes(rail: Guardrail, gated: Gated) -> None:
    @guard(policy=rail)
    def chat(prompt: str) -> str:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        chat("BAD")
    gated.begun.set()


def test_a_sync_stream_yields_nothing_before_the_verdict_and_is_closed_on_a_block(
    rail: Guardrail, gated: Gated
) -> None:
    closed: list[str] = []

    @guard(policy=rail)
    def chat(prompt: str) -> Iterator[str]:
        gated.begun.set()
        try:
            yield "some words "
            yield "and more"
        finally:
            closed.append(prompt)

    assert list(chat("fine")) == ["some words ", "and more"]
    with pytest.raises(GuardrailBlocked):
        next(chat("BAD"))
    assert closed == ["fine", "BAD"]
    stream = chat("fine")
    assert next(stream) == "some words "
    stream.close()  # type: ignore[attr-defined]
    assert closed == ["fine", "BAD", "fine"]


async def test_flags_of_inputs_are_told_in_parallel_too(rail: Guardrail, gated: Gated) -> None:
    told: list[Verdict] = []

    @guard(policy=rail, on_flag=told.append)
    async def chat(prompt: str) -> str:
        gated.begun.set()
        return "fine"

    assert await chat("MEH") == "fine"
    assert [verdict.direction.value for verdict in told] == ["input"]


@pytest.mark.real
async def test_guarded_clients_send_beside_the_check(
    llama_url: str, marker: MarkerClassifier
) -> None:
    rail = Guardrail(PARALLEL, marker)
    ask: Any = [{"role": "user", "content": "Hi"}]
    limit: dict[str, Any] = {"model": "smollm2", "max_tokens": 4}
    plain = openai.OpenAI(base_url=f"{llama_url}/v1", api_key="x", max_retries=0)
    with guard_client(plain, policy=rail) as client:
        for stream in (False, True):
            with pytest.raises(GuardrailBlocked):
                client.chat.completions.create(messages=EVIL, stream=stream, **limit)
        assert client.chat.completions.create(messages=ask, **limit).choices
    other = anthropic.AsyncAnthropic(base_url=llama_url, api_key="x", max_retries=0)
    async with guard_client(other, policy=rail) as aclient:
        with pytest.raises(GuardrailBlocked):
            await aclient.messages.create(messages=EVIL, **limit)
        message = await aclient.messages.create(messages=ask, **limit)
        assert message.content
