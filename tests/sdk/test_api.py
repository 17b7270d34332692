"""The plain API: texts, conversations, answers, streams and scores, sync and async."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from guardrail import Guardrail, GuardrailBlocked, PolicyError
from guardrail.policy import Policy, parse_policy
from guardrail.types import Action, Direction, Outcome, Role, Segment, Verdict
from tests.conftest import MarkerClassifier
from tests.sdk.conftest import adrain, drain

LONG = "the quick brown fox jumps over the lazy dog and runs on and on " * 4


def words(text: str) -> Iterator[str]:
    yield from (f"{word} " for word in text.split())


async def awords(text: str) -> AsyncIterator[str]:
    for word in words(text):
        yield word


@pytest.mark.parametrize(
    ("content", "action"),
    [
        ("hello", Action.PASS),
        ("MEH", Action.FLAG),
        ("BAD", Action.BLOCK),
        ([{"role": "user", "content": "BAD"}], Action.BLOCK),
        ({"messages": [{"role": "user", "content": "BAD"}], "model": "m"}, Action.BLOCK),
        ({"input": "BAD"}, Action.BLOCK),
        (Segment("BAD", Role.USER), Action.BLOCK),
        (["fine", "BAD"], Action.BLOCK),
    ],
)
def test_inputs_of_every_shape_are_judged(rail: Guardrail, content: object, action: Action) -> None:
    assert rail.check(content).action is action


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2], [3]], ["fine", [4]]])
async def test_text_that_cannot_be_read_is_a_failed_check_not_a_skipped_one(
    rail: Guardrail, prompt: list[object]
) -> None:
    body = {"model": "m", "prompt": prompt}
    for verdict in (await rail.acheck(body), rail.check(body)):
        assert verdict.blocked
        assert {finding.reason for finding in verdict.findings} == {"unreadable"}


async def test_sync_and_async_checks_agree(rail: Guardrail) -> None:
    assert await rail.acheck("BAD") == await asyncio.to_thread(rail.check, "BAD")


def test_a_sync_check_works_inside_a_running_loop_as_in_a_notebook(rail: Guardrail) -> None:
    async def cell() -> Verdict:
        return rail.check("BAD")

    assert asyncio.run(cell()).blocked


def test_an_answer_is_judged_with_its_prompt(rail: Guardrail, marker: MarkerClassifier) -> None:
    verdict = rail.check("an answer", direction="output", prompt="a question")
    assert verdict.direction is Direction.OUTPUT
    assert (marker.seen[0].role, marker.seen[0].prompt) == (Role.ASSISTANT, "a question")


def test_the_parts_of_a_stream_say_where_they_stand(
    rail: Guardrail, marker: MarkerClassifier
) -> None:
    assert "".join(rail.check_stream(words(LONG))) == LONG
    places = [sample.place for sample in marker.seen]
    assert len(places) > 3
    assert len({place.stream for place in places if place}) == 1
    for sample in marker.seen:
        assert sample.place
        assert LONG[sample.place.start :].startswith(sample.text)


def test_what_cannot_be_read_is_refused_with_the_way_out(rail: Guardrail) -> None:
    with pytest.raises(TypeError, match="give an adapter"):
        rail.check(object())
    with pytest.raises(TypeError, match="output="):
        rail.check(3.5, direction="output")


def test_a_failing_classifier_becomes_a_verdict(rail: Guardrail) -> None:
    verdict = rail.check("BOOM")
    assert (verdict.outcome, verdict.blocked) == (Outcome.FAILED, True)


def test_nothing_to_say_is_passed_as_unscanned(rail: Guardrail) -> None:
    assert rail.check("", direction="output").outcome is Outcome.SKIPPED


def test_mixed_verdicts_of_one_gather_stay_with_their_texts(
    rail: Guardrail, marker: MarkerClassifier
) -> None:
    async def run() -> list[Verdict]:
        texts = ["BAD" if i % 3 == 0 else f"ok {i}" for i in range(64)]
        return await asyncio.gather(*(rail.acheck(text) for text in texts))

    verdicts = asyncio.run(run())
    assert [v.blocked for v in verdicts] == [i % 3 == 0 for i in range(64)]
    assert max(marker.batches) > 8  # checks of one gather share forward passes


def test_threads_and_loops_share_batches_without_mixing_verdicts(rail: Guardrail) -> None:
    def one(i: int) -> bool:
        text = "BAD" if i % 2 else "fine"
        verdict = asyncio.run(rail.acheck(text)) if i % 3 else rail.check(text)
        return verdict.blocked

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(one, range(96))) == [bool(i % 2) for i in range(96)]


async def test_a_cancelled_check_is_not_scored(policy: Policy) -> None:
    gate = threading.Event()

    class Slow(MarkerClassifier):
        def score(self, samples):  # type: ignore[no-untyped-def]
            gate.wait(5)
            return super().score(samples)

    slow = Slow()
    rail = Guardrail(policy, slow)
    first = asyncio.create_task(rail.acheck("first"))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(rail.acheck("second"))
    await asyncio.sleep(0.05)
    second.cancel()
    await asyncio.sleep(0.05)
    gate.set()
    assert (await first).action is Action.PASS
    with pytest.raises(asyncio.CancelledError):
        await second
    assert [sample.text for sample in slow.seen] == ["first"]


def test_scores_come_without_any_policy(rail: Guardrail) -> None:
    scores = rail.score(["fine", "BAD"] * 70)
    assert len(scores) == 140
    assert [s.categories["unsafe"] for s in scores[:2]] == [0.01, 0.99]


async def test_scores_come_async_too(rail: Guardrail) -> None:
    assert (await rail.ascore(["BAD"]))[0].categories["unsafe"] == 0.99


def test_a_guardrail_can_be_sent_to_another_process(policy: Policy) -> None:
    copy = pickle.loads(pickle.dumps(Guardrail(policy)))
    assert copy.policy == policy


def test_an_unknown_policy_names_the_fix() -> None:
    with pytest.raises(PolicyError):
        Guardrail.load("no-such-policy")


# --- streams -----------------------------------------------------------------------------


def test_a_clean_stream_comes_out_as_it_went_in(rail: Guardrail) -> None:
    assert "".join(rail.check_stream(words(LONG))) == LONG


async def test_a_clean_async_stream_comes_out_as_it_went_in(rail: Guardrail) -> None:
    assert "".join([w async for w in rail.acheck_stream(awords(LONG))]) == LONG


def test_nothing_bad_leaves_a_stream_before_the_block(rail: Guardrail) -> None:
    out: list[str] = []
    stream = rail.check_stream(words(f"{LONG} BAD {LONG}"))
    with pytest.raises(GuardrailBlocked) as caught:
        out.extend(stream)  # type: ignore[arg-type]
    assert caught.value.verdict.direction is Direction.OUTPUT
    assert next(stream, None) is None


@pytest.mark.parametrize("early", [0, 3])
def test_an_early_end_closes_the_source_in_its_own_thread(rail: Guardrail, early: int) -> None:
    seen: list[tuple[str, threading.Thread]] = []

    def source() -> Iterator[str]:
        try:
            for word in words(LONG):
                seen.append(("read", threading.current_thread()))
                yield word
        finally:
            seen.append(("closed", threading.current_thread()))

    stream = rail.check_stream(source())
    for _ in range(early):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert {thread for _, thread in seen} <= {threading.current_thread()}
    assert not early or seen[-1][0] == "closed"


async def test_an_early_break_closes_an_async_source(rail: Guardrail) -> None:
    closed = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        try:
            async for word in awords(LONG):
                yield word
        finally:
            closed.set()

    async for _ in rail.acheck_stream(source()):
        break
    await asyncio.wait_for(closed.wait(), 20)
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancelled_consumer_closes_its_source(rail: Guardrail) -> None:
    started, closed = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncIterator[str]:
        try:
            yield "a"
            started.set()
            await asyncio.sleep(60)
        finally:
            closed.set()

    async def consume() -> None:
        async for _ in rail.acheck_stream(source()):
            pass

    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(closed.wait(), 20)


def test_an_exception_of_the_source_comes_after_what_was_said(rail: Guardrail) -> None:
    def source() -> Iterator[str]:
        yield "before "
        raise KeyError("mine")

    out: list[str] = []
    with pytest.raises(KeyError, match="mine"):
        drain(rail.check_stream(source()), out)
    assert out == ["before "]


async def test_an_exception_of_an_async_source_comes_after_what_was_said(rail: Guardrail) -> None:
    async def source() -> AsyncIterator[str]:
        yield "before "
        raise KeyError("mine")

    out: list[str] = []
    with pytest.raises(KeyError, match="mine"):
        await adrain(rail.acheck_stream(source()), out)
    assert out == ["before "]


async def test_a_cancellation_within_an_async_source_reaches_its_consumer(rail: Guardrail) -> None:
    async def source() -> AsyncIterator[str]:
        yield "before "
        work = asyncio.ensure_future(asyncio.sleep(9))
        work.cancel()
        await work

    out: list[str] = []
    task = asyncio.create_task(adrain(rail.acheck_stream(source()), out))
    done, _ = await asyncio.wait({task}, timeout=20)
    assert done
    assert task.cancelled()
    assert out == ["before "]


async def test_a_slow_consumer_stops_the_reading(rail: Guardrail) -> None:
    read = 0

    async def source() -> AsyncIterator[str]:
        nonlocal read
        for _ in range(20_000):
            read += 1
            yield "word and more words, all of them fine " * 4
            await asyncio.sleep(0)

    stream = rail.acheck_stream(source())
    await anext(stream)
    stalled = 0
    while stalled != read:
        stalled = read
        await asyncio.sleep(0.4)
    assert read < 20_000
    await stream.aclose()  # type: ignore[attr-defined]


def test_items_of_any_kind_are_read_by_a_function(rail: Guardrail) -> None:
    items = [{"t": word} for word in words(LONG)]
    assert list(rail.check_stream(items, read=lambda item: item["t"])) == items
    with pytest.raises(TypeError, match="returns the text of an item"):
        list(rail.check_stream([{"t": "x"}]))


def test_chunks_of_a_known_api_are_read_by_its_dialect(rail: Guardrail) -> None:
    def chunk(text: str) -> dict[str, object]:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        return {"object": "chat.completion.chunk", "choices": [choice]}

    chunks = [chunk(word) for word in words(LONG)]
    assert list(rail.check_stream(chunks)) == chunks
    with pytest.raises(GuardrailBlocked):
        list(rail.check_stream([*chunks, chunk("BAD")]))


def test_flags_of_a_stream_are_told_in_the_consumers_thread(rail: Guardrail) -> None:
    told: list[tuple[Action, threading.Thread]] = []
    text = f"{LONG} MEH {LONG}"
    out = rail.check_stream(
        words(text), on_flag=lambda v: told.append((v.action, threading.current_thread()))
    )
    assert "".join(out).split() == text.split()
    assert told == [(Action.FLAG, threading.current_thread())]


def test_a_policy_that_only_monitors_never_cuts_a_stream(marker: MarkerClassifier) -> None:
    policy = parse_policy(
        "version: 1\nname: m\nmode: monitor\ncategories: {unsafe: {flag: 0.5, block: 0.9}}"
    )
    text = f"{LONG} BAD {LONG}"
    assert "".join(Guardrail(policy, marker).check_stream(words(text))).split() == text.split()
