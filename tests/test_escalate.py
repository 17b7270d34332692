"""What the cascade in `Checker` promises: who is asked, who waits, and what a fault does."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from guardrail.check import PIECE_CHARS, Checker
from guardrail.classifier.base import Sample
from guardrail.classifier.cascade import Guard, Guards
from guardrail.classifier.prepare import PreparedPolicies
from guardrail.errors import CheckError
from guardrail.escalate import MAX_WAITING, decide_now
from guardrail.policy import parse_policy
from guardrail.types import (
    Action,
    Channel,
    Direction,
    Outcome,
    Role,
    Scores,
    Segment,
    Stage,
    Verdict,
)
from tests.guard_server import Reply, guard_server

HEAD = "version: 1\nname: t\nnormalise: false\n"
GUARD = "guards: {big: {kind: local, model: x, timeout_ms: 300, cache: 0%s}}\n"
BAND = "escalate: {band: [0.5, 0.9], guard: big}"
CLOSED = parse_policy(HEAD + GUARD % "" + f"categories: {{unsafe: {{block: 0.6, {BAND}}}}}")
OPEN = parse_policy(HEAD + GUARD % "" + f"categories: {{unsafe: {{flag: 0.6, {BAND}}}}}")


class Big:
    """A guard: what says WORSE is harmful, FAULT raises, SLOW takes its time."""

    model_id = "big@1"
    categories = ("unsafe", "hate", "drugs")
    by_category = False
    batch = 8

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self.busy = self.busiest = 0
        self.hold = threading.Event()
        self._lock = threading.Lock()

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        return self.ask(samples, self.categories)

    def ask(self, samples: Sequence[Sample], categories: Sequence[str]) -> list[Scores]:
        texts = tuple(s.text for s in samples)
        with self._lock:
            self.asked.append((texts, tuple(categories)))
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
        try:
            if any("FAULT" in t for t in texts):
                raise CheckError("limits its rate", reason="rate_limited")
            if any("CRASH" in t for t in texts):
                raise ZeroDivisionError
            if any("SLOW" in t for t in texts):
                self.hold.wait(8)
        finally:
            with self._lock:
                self.busy -= 1
        return [Scores(dict.fromkeys(categories, 0.95 if "WORSE" in t else 0.1)) for t in texts]


@pytest.fixture
def big():
    one = Big()
    yield one
    one.hold.set()


def segment(text: str) -> Segment:
    return Segment(text, Role.USER, Channel(0))


def checker(marker, big) -> Checker:
    return Checker(marker, guards=Guards(lambda *_: big))


async def judge(marker, big, text: str, policy=CLOSED):
    async with checker(marker, big) as one:
        await asyncio.to_thread(one.adopt, policy)
        big.asked.clear()  # the probe
        return await one.check(policy, Direction.INPUT, segment(text))


@pytest.mark.parametrize(
    ("text", "action", "stage", "asked"),
    [
        ("fine", Action.PASS, Stage.MODEL, 0),
        ("BAD", Action.BLOCK, Stage.MODEL, 0),
        ("MEH", Action.PASS, Stage.GUARD, 1),
        ("MEH and WORSE", Action.BLOCK, Stage.GUARD, 1),
    ],
)
async def test_only_what_lies_in_the_band_is_asked(marker, big, text, action, stage, asked) -> None:
    verdict = await judge(marker, big, text)
    assert (verdict.action, verdict.stage, len(big.asked)) == (action, stage, asked)
    for one in verdict.scores.escalations:
        assert (one.category, one.guard, one.before) == ("unsafe", "big", 0.7)
        assert (one.model, one.reason) == ("big/big@1", "")
        assert verdict.scores.model == "marker@0+big/big@1"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("MEH FAULT", "rate_limited"), ("MEH CRASH", "failure"), ("MEH SLOW", "timeout")],
)
async def test_without_an_answer_the_failure_mode_decides(marker, big, text, reason) -> None:
    closed = await judge(marker, big, text)
    opened = await judge(marker, big, text, OPEN)
    assert (closed.action, closed.findings[0].reason) == (Action.BLOCK, f"guard_{reason}")
    assert (closed.stage, closed.guard) == (Stage.FAILURE, "big")
    assert (opened.action, opened.stage) == (Action.FLAG, Stage.MODEL)
    for verdict in (closed, opened):
        assert [e.reason for e in verdict.scores.escalations] == [reason]
        assert verdict.outcome is Outcome.SCANNED


async def test_a_text_that_is_too_long_for_the_guard_is_a_fault(marker, big) -> None:
    policy = parse_policy(
        HEAD + GUARD % ", max_chars: 100" + f"categories: {{unsafe: {{block: 0.6, {BAND}}}}}"
    )
    verdict = await judge(marker, big, "MEH" + "x" * 100, policy)
    assert verdict.findings[0].reason == "guard_too_large"


async def test_a_slow_guard_holds_up_nobody_else(marker, big) -> None:
    patient = parse_policy(
        HEAD
        + (GUARD % "").replace("300", "9000")
        + f"categories: {{unsafe: {{block: 0.6, {BAND}}}}}"
    )
    async with checker(marker, big) as one:
        await asyncio.to_thread(one.adopt, patient)
        unsure = [
            asyncio.ensure_future(one.check(patient, Direction.INPUT, segment(f"MEH SLOW {n}")))
            for n in range(40)
        ]
        await asyncio.sleep(0.05)
        sure = await one.check(patient, Direction.INPUT, segment("fine"))
        assert sure.action is Action.PASS
        assert not any(task.done() for task in unsure)
        big.hold.set()
        assert {v.stage for v in await asyncio.gather(*unsure)} == {Stage.GUARD}


async def test_questions_share_calls_and_the_guard_s_concurrency_is_kept(marker, big) -> None:
    policy = parse_policy(
        HEAD + GUARD % ", concurrency: 2" + f"categories: {{unsafe: {{block: 0.6, {BAND}}}}}"
    )
    async with checker(marker, big) as one:
        await asyncio.to_thread(one.adopt, policy)
        big.asked.clear()
        texts = [segment(f"MEH {n}") for n in range(64)]
        verdicts = await asyncio.gather(
            *(one.check(policy, Direction.INPUT, text) for text in texts)
        )
    assert {v.action for v in verdicts} == {Action.PASS}
    assert sum(len(texts) for texts, _ in big.asked) == 64
    assert len(big.asked) < 40
    assert big.busiest <= 2


async def test_what_waits_for_a_guard_is_bounded(marker, big) -> None:
    async with checker(marker, big) as one:
        await asyncio.to_thread(one.adopt, CLOSED)
        checks = [
            asyncio.ensure_future(one.check(CLOSED, Direction.INPUT, segment("MEH SLOW")))
            for _ in range(MAX_WAITING + 200)
        ]
        verdicts = await asyncio.gather(*checks)
    reasons = [v.findings[0].reason for v in verdicts]
    assert reasons.count("guard_overload") > 0
    assert set(reasons) == {"guard_overload", "guard_timeout"}


async def test_of_a_long_text_only_the_unsure_pieces_are_sent(marker, big) -> None:
    verdict = await judge(marker, big, "x" * (3 * PIECE_CHARS) + "MEH" + "y" * 100)
    assert [len(texts) for texts, _ in big.asked] == [1]
    assert "MEH" in big.asked[0][0][0]
    assert verdict.action is Action.PASS
    assert verdict.scores.coverage.scanned_chars == verdict.scores.coverage.total_chars


async def test_categories_of_one_text_are_one_question_unless_the_guard_wants_them_apart(
    marker, big
) -> None:
    rules = f"categories: {{hate: {{block: 0.6, {BAND}}}, drugs: {{flag: 0.6, {BAND}}}}}"
    policy = parse_policy(HEAD + GUARD % "" + rules)
    await judge(marker, big, "MEH", policy)
    assert [keys for _, keys in big.asked] == [("hate", "drugs")]
    big.by_category = True
    verdict = await judge(marker, big, "MEH", policy)
    assert sorted(keys for _, keys in big.asked) == [("drugs",), ("hate",)]
    assert {e.category for e in verdict.scores.escalations} == {"hate", "drugs"}


async def test_a_text_that_is_blocked_anyway_is_not_sent(marker, big) -> None:
    rules = f"categories: {{hate: {{block: 0.6, {BAND}}}, drugs: {{block: 0.6}}}}"
    verdict = await judge(marker, big, "MEH", parse_policy(HEAD + GUARD % "" + rules))
    assert (verdict.action, big.asked) == (Action.BLOCK, [])


async def test_a_cancelled_check_leaves_nothing_behind(marker, big) -> None:
    async with checker(marker, big) as one:
        await asyncio.to_thread(one.adopt, CLOSED)
        task = asyncio.ensure_future(one.check(CLOSED, Direction.INPUT, segment("MEH SLOW")))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        big.hold.set()
        verdict = await one.check(CLOSED, Direction.INPUT, segment("MEH"))
        assert verdict.action is Action.PASS


async def test_closing_fails_what_waits_at_once(marker, big) -> None:
    patient = parse_policy(
        HEAD
        + (GUARD % ", concurrency: 1").replace("300", "9000")
        + f"categories: {{unsafe: {{block: 0.6, {BAND}}}}}"
    )
    one = checker(marker, big)
    await asyncio.to_thread(one.adopt, patient)
    tasks = [
        asyncio.ensure_future(one.check(patient, Direction.INPUT, segment(f"MEH SLOW {n}")))
        for n in range(20)
    ]
    await asyncio.sleep(0.1)
    await one.close()
    verdicts = await asyncio.wait_for(asyncio.gather(*tasks), 8)
    assert {v.findings[0].reason for v in verdicts} <= {"guard_closing", "closing"}


def test_tools_that_judge_one_text_after_another_ask_the_guard_too(marker, big) -> None:
    ready = PreparedPolicies(marker, Guards(lambda *_: big)).get(CLOSED)

    def decided(text: str) -> Verdict:
        sample = Sample(text, Role.USER)
        return decide_now(ready, Direction.INPUT, sample, ready.classifier.score([sample])[0])

    assert (decided("MEH").action, decided("MEH").stage) == (Action.PASS, Stage.GUARD)
    assert decided("MEH WORSE").blocked
    assert decided("MEH FAULT").findings[0].reason == "guard_rate_limited"
    assert decided("BAD").stage is Stage.MODEL


def test_a_guard_with_a_fault_of_its_own_is_no_answer_there(marker, big, monkeypatch) -> None:
    ready = PreparedPolicies(marker, Guards(lambda *_: big)).get(CLOSED)
    monkeypatch.setattr(big, "ask", lambda *_: 1 / 0)
    sample = Sample("MEH", Role.USER)
    verdict = decide_now(ready, Direction.INPUT, sample, ready.classifier.score([sample])[0])
    assert verdict.blocked
    assert verdict.findings[0].reason == "guard_failure"


async def test_a_guard_that_is_down_at_the_first_check_is_asked_again_at_the_next(marker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = f"guards: {{big: {{kind: moderations, url: 'http://127.0.0.1:{port}/v1'}}}}\n"
    policy = parse_policy(HEAD + text + f"categories: {{unsafe: {{block: 0.6, {BAND}}}}}")
    async with Checker(marker) as one:
        down = await one.check(policy, Direction.INPUT, segment("MEH"))
        assert down.findings[0].reason == "guard_unavailable"
        reply = {"results": [{"category_scores": {"hate": 0.1}}]}
        with guard_server(lambda *_: (200, reply, {}), port):
            up = await one.check(policy, Direction.INPUT, segment("MEH"))
        assert (up.action, up.stage) == (Action.PASS, Stage.GUARD)
        assert (await one.check(policy, Direction.INPUT, segment("fine"))).action is Action.PASS


async def test_what_a_guard_s_endpoint_quotes_of_a_text_is_not_logged(marker, caplog) -> None:
    """Servers say what they could not take, often word for word."""
    caplog.set_level(logging.INFO)

    def quotes(_: str, body: Any) -> Reply:
        return 400, {"error": {"message": f"cannot read {body['messages']}"}}, {}

    with guard_server(quotes) as server:
        guard = f"guards: {{big: {{kind: openai_logprobs, url: '{server.url}', model: m, "
        policy = parse_policy(
            f"{HEAD}{guard}probe: false}}}}\ncategories: {{unsafe: {{block: 0.6, {BAND}}}}}"
        )
        async with Checker(marker) as checker:
            verdict = await checker.check(policy, Direction.INPUT, Segment("MEH my SECRET"))
    assert verdict.blocked
    assert verdict.findings[0].reason == "guard_rejected"
    assert "SECRET" not in caplog.text
    assert "big" in caplog.text


@pytest.mark.parametrize("whose", ["judge", "guard"])
@pytest.mark.parametrize("count", [0, 2])
async def test_a_guard_that_answers_too_little_or_too_much_has_failed_at_once(
    marker, big, monkeypatch, whose, count
) -> None:
    asked = big if whose == "judge" else Guard
    right = asked.ask
    async with checker(marker, big) as one:
        await asyncio.to_thread(one.adopt, CLOSED)
        monkeypatch.setattr(asked, "ask", lambda *about: right(*about) * count)
        verdict = await one.check(CLOSED, Direction.INPUT, segment("MEH"))
    assert verdict.findings[0].reason == "guard_failure"
