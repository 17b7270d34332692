"""What `Checker` promises."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Sequence

import pytest

from guardrail.check import PIECE_CHARS, Checker, CheckRecord, ShadowRecord, select
from guardrail.classifier.base import Place, Sample, Stream
from guardrail.errors import GuardrailError
from guardrail.policy import load_policy, parse_policy
from guardrail.types import Action, Channel, ChannelKind, Direction, Outcome, Role, Scores, Segment

HEAD = "version: 1\nname: t\n"
POLICY = parse_policy(HEAD + "categories: {unsafe: {flag: 0.5, block: 0.9}}")
OPEN = parse_policy(HEAD + "categories: {unsafe: {flag: 0.5}}")


def user(text: str, turn: int = 0, latest: bool = True, role: Role = Role.USER) -> Segment:
    return Segment(text, role, Channel(turn), turn=turn, latest=latest)


async def judge(marker, text: str, policy=POLICY, **kw):
    async with Checker(marker, **kw) as checker:
        return await checker.check(policy, Direction.INPUT, user(text))


@pytest.mark.parametrize(
    ("text", "action"), [("fine", Action.PASS), ("MEH", Action.FLAG), ("BAD", Action.BLOCK)]
)
async def test_a_text_is_judged_by_the_policy(marker, text, action) -> None:
    assert (await judge(marker, text)).action is action


async def test_concurrent_checks_share_forward_passes(marker) -> None:
    release = threading.Event()
    score = marker.score

    def slow(samples):
        release.wait(5)
        return score(samples)

    marker.score = slow
    async with Checker(marker) as checker:
        checks = [
            asyncio.ensure_future(checker.check(POLICY, Direction.INPUT, user(f"text {n}")))
            for n in range(40)
        ]
        await asyncio.sleep(0.05)
        release.set()
        await asyncio.gather(*checks)
    assert sum(marker.batches) == 40
    assert len(marker.batches) <= 3


async def test_mixed_verdicts_reach_their_own_callers(marker) -> None:
    async with Checker(marker) as checker:
        texts = ["fine", "BAD", "MEH"] * 20
        verdicts = await asyncio.gather(
            *(checker.check(POLICY, Direction.INPUT, user(t)) for t in texts)
        )
    wanted = [Action.PASS, Action.BLOCK, Action.FLAG] * 20
    assert [v.action for v in verdicts] == wanted


async def test_a_long_text_is_scored_whole_and_a_word_across_a_cut_is_seen(marker) -> None:
    for where in (0, PIECE_CHARS - 2, PIECE_CHARS * 2 - 203, 50_000 - 3):
        text = "." * where + "BAD" + "." * (50_000 - 3 - where)
        verdict = await judge(marker, text)
        assert verdict.blocked, where
        assert verdict.scores.coverage.scanned_chars == 50_000
        assert not verdict.scores.coverage.truncated


async def test_parts_of_a_stream_are_scored_in_their_order_whatever_they_cost(marker) -> None:
    release = threading.Event()
    score = marker.score

    def slow(samples):
        release.wait(5)
        return score(samples)

    marker.score = slow
    stream = Stream()
    sizes = [3000, 10, 900, 1]
    async with Checker(marker) as checker:
        checks = [
            asyncio.ensure_future(
                checker.check(
                    POLICY, Direction.OUTPUT, user("x" * size), place=Place(stream, sum(sizes[:n]))
                )
            )
            for n, size in enumerate(sizes)
        ]
        await asyncio.sleep(0.05)
        release.set()
        await asyncio.gather(*checks)
    assert [len(sample.text) for sample in marker.seen] == sizes


async def test_pieces_of_a_long_text_are_no_parts_of_a_stream(marker) -> None:
    async with Checker(marker) as checker:
        text = user("x" * 3 * PIECE_CHARS)
        await checker.check(POLICY, Direction.OUTPUT, text, place=Place(Stream(), 0))
    assert {sample.place for sample in marker.seen} == {None}
    assert len(marker.seen) > 3


async def test_a_long_text_does_not_hold_up_short_ones(marker) -> None:
    score = marker.score

    def slow(samples):
        time.sleep(0.01 * len(samples))
        return score(samples)

    marker.score = slow
    async with Checker(marker) as checker:
        long = asyncio.ensure_future(checker.check(POLICY, Direction.INPUT, user("x" * 400_000)))
        await asyncio.sleep(0.02)
        await asyncio.wait_for(checker.check(POLICY, Direction.INPUT, user("short")), 2.0)
        assert not long.done()
        assert (await long).action is Action.PASS


async def test_a_classifier_that_raises_blocks_or_passes_by_the_failure_mode(marker) -> None:
    closed, opened = await judge(marker, "BOOM"), await judge(marker, "BOOM", OPEN)
    assert closed.blocked
    assert closed.findings[0].reason == "failure"
    assert opened.action is Action.PASS
    assert closed.outcome is opened.outcome is Outcome.FAILED


async def test_a_time_out_is_a_failed_check(marker) -> None:
    policy = parse_policy(HEAD + "timeout_ms: 20\ncategories: {unsafe: {block: 0.9}}")
    marker.score = lambda samples: time.sleep(0.2)
    verdict = await judge(marker, "fine", policy)
    assert verdict.blocked
    assert verdict.findings[0].reason == "timeout"


async def test_overload_is_a_failed_check_and_the_queue_is_bounded(marker) -> None:
    verdict = await judge(marker, "x" * 2_000, max_queue_chars=1_000)
    assert verdict.blocked
    assert verdict.findings[0].reason == "overload"


async def test_a_cancelled_check_takes_no_place_in_the_queue(marker) -> None:
    release = threading.Event()
    score = marker.score

    def slow(samples):
        release.wait(5)
        return score(samples)

    marker.score = slow
    async with Checker(marker) as checker:
        first = asyncio.ensure_future(checker.check(POLICY, Direction.INPUT, user("one")))
        await asyncio.sleep(0.02)
        gone = asyncio.ensure_future(checker.check(POLICY, Direction.INPUT, user("BAD two")))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        release.set()
        await first
        await checker.check(POLICY, Direction.INPUT, user("three"))
        assert checker.queued_chars == 0
    assert [s.text for s in marker.seen] == ["one", "three"]


async def test_closing_fails_what_waits_by_the_failure_mode(marker) -> None:
    release = threading.Event()
    marker.score = lambda samples: release.wait(1) and []
    checker = Checker(marker)
    checks = [
        asyncio.ensure_future(checker.check(POLICY, Direction.INPUT, user("x" * 9_000)))
        for _ in range(3)
    ]
    await asyncio.sleep(0.02)
    closing = asyncio.ensure_future(checker.close())
    release.set()
    assert all(v.blocked for v in await asyncio.gather(*checks))
    await closing


async def test_a_check_after_the_end_fails_at_once_and_says_why(marker) -> None:
    checker = Checker(marker)
    await checker.close()
    verdict = await asyncio.wait_for(checker.check(POLICY, Direction.INPUT, user("x")), 5)
    assert verdict.blocked
    assert {finding.reason for finding in verdict.findings} == {"closing"}


async def test_every_check_is_reported(marker) -> None:
    records: list[CheckRecord] = []
    await judge(marker, "BAD", observer=records.append)
    assert [(r.direction, r.verdict.action, r.chars) for r in records] == [
        (Direction.INPUT, Action.BLOCK, 3)
    ]
    assert records[0].seconds >= 0


async def test_empty_text_is_skipped_without_a_forward_pass(marker) -> None:
    verdict = await judge(marker, " \n")
    assert verdict.outcome is Outcome.SKIPPED
    assert not marker.seen


def test_scope_follows_roles_and_turns() -> None:
    segments = [
        user("rules", role=Role.SYSTEM),
        user("old", turn=1, latest=False),
        user("answer", turn=2, latest=False, role=Role.ASSISTANT),
        user("new", turn=3),
        user("found", turn=4, role=Role.TOOL),
    ]
    scope = select(POLICY, segments)
    assert [s.text for s in scope.samples] == ["new", "found"]
    assert len(scope.skipped) == 3
    assert "role system is not in input.roles" in scope.skipped[0]
    everything = parse_policy(
        HEAD + "input: {turns: all, roles: [system, user, assistant, tool]}\n"
        "categories: {unsafe: {flag: 0.5}}"
    )
    assert len(select(everything, segments).samples) == 5


def test_a_conversation_once_blocked_is_not_blocked_for_ever() -> None:
    policy = parse_policy(
        HEAD + "message: no way\ninput: {turns: all}\ncategories: {unsafe: {block: 0.9}}"
    )
    history = [
        user("BAD", turn=0, latest=False),
        user("no way", turn=1, latest=False, role=Role.ASSISTANT),
        user("fine", turn=2, latest=False),
        user("sure", turn=3, latest=False, role=Role.ASSISTANT),
        user("and now?", turn=4),
    ]
    assert [s.text for s in select(policy, history).samples] == ["fine", "sure", "and now?"]
    forged = [*history[:2], user("BAD", turn=2), user("no way", turn=3, role=Role.ASSISTANT)]
    assert "BAD" in [s.text for s in select(policy, forged).samples]


def test_neighbouring_parts_of_one_speaker_are_judged_together() -> None:
    parts = [user("make a b", turn=0), user("omb", turn=0), user("now", turn=1)]
    assert [s.text for s in select(POLICY, parts).samples] == ["make a b\nomb\nnow"]
    run = [user(text, turn=n) for n, text in enumerate(["well", "make a b", "omb"])]
    assert [s.text for s in select(POLICY, run).samples] == ["well\nmake a b\nomb"]
    tool = Segment("{}", Role.USER, Channel(0, ChannelKind.TOOL_ARGUMENTS), turn=0)
    assert len(select(POLICY, [parts[0], tool]).samples) == 2


async def test_text_of_no_known_speaker_is_in_scope_of_every_policy() -> None:
    assert select(POLICY, [user("x", role=Role.TEXT)]).samples


async def test_more_texts_than_can_be_judged_are_a_failed_check_at_once(marker) -> None:
    roles = (Role.USER, Role.TOOL)
    crowd = [user("a", turn=n, role=roles[n % 2]) for n in range(50_000)]
    started = time.monotonic()
    async with Checker(marker) as checker:
        verdict = await checker.check_input(POLICY, crowd)
    assert verdict.blocked
    assert verdict.outcome is Outcome.FAILED
    assert not marker.seen
    assert time.monotonic() - started < 30


def test_joining_many_parts_takes_time_linear_in_their_number() -> None:
    parts = [user("a") for _ in range(200_000)]
    started = time.monotonic()
    assert len(select(POLICY, parts).samples[0].text) == 399_999
    assert time.monotonic() - started < 30


async def test_a_classifier_that_returns_too_few_scores_fails_the_check(marker) -> None:
    marker.score = lambda samples: []
    verdict = await judge(marker, "x")
    assert verdict.blocked
    assert verdict.findings[0].reason == "failure"


async def test_a_request_is_as_bad_as_its_worst_part(marker) -> None:
    async with Checker(marker) as checker:
        segments = [user("fine"), user("BAD", turn=3, role=Role.TOOL), user("MEH", turn=5)]
        verdict = await checker.check_input(POLICY, segments)
        nothing = await checker.check_input(POLICY, [user("BAD", role=Role.SYSTEM)])
    assert verdict.blocked
    assert nothing.outcome is Outcome.SKIPPED


async def test_one_checker_serves_policies_with_and_without_patterns(marker) -> None:
    secret = parse_policy(HEAD + "categories: {codename: {patterns: [zephyr-\\d+], block: 0.5}}")
    async with Checker(marker) as checker:
        texts = ["about zephyr-12", "about BAD"]
        verdicts = await asyncio.gather(
            *(
                checker.check(policy, Direction.INPUT, user(text))
                for policy in (secret, POLICY)
                for text in texts
            )
        )
    assert [v.blocked for v in verdicts] == [True, False, False, True]


async def test_disguised_text_is_judged_as_what_it_disguises(marker) -> None:
    hidden = base64.b64encode(b"please do this: it is BAD, so very BAD indeed").decode()
    assert (await judge(marker, hidden)).blocked
    plain = parse_policy(HEAD + "normalise: false\ncategories: {unsafe: {block: 0.9}}")
    assert not (await judge(marker, hidden, plain)).blocked


async def test_a_policy_that_cannot_be_prepared_fails_its_checks_and_says_why(marker) -> None:
    policy = parse_policy(HEAD + "categories: {hate: {block: {fpr: 0.01}}}")
    async with Checker(marker) as checker:
        with pytest.raises(GuardrailError):
            checker.adopt(policy)
        verdict = await checker.check(policy, Direction.INPUT, user("x"))
    assert verdict.outcome is Outcome.FAILED
    assert verdict.blocked


async def test_a_policy_on_trial_judges_too_and_changes_nothing(marker, tmp_path) -> None:
    (tmp_path / "next.yaml").write_text(f"{HEAD}categories: {{own: {{block: 0.5, words: [acme]}}}}")
    live = parse_policy(
        f"{HEAD}shadow: next.yaml\ncategories: {{unsafe: {{block: 0.9}}}}", base=tmp_path
    )
    seen: list[ShadowRecord] = []
    async with Checker(marker, shadow_observer=seen.append) as checker:
        policy = checker.adopt(live)
        for text in ("about Acme", "BAD"):
            verdict = await checker.check(policy, Direction.INPUT, Segment(text))
            assert verdict.blocked == (text == "BAD")
        async with asyncio.timeout(20):
            while len(seen) < 2:  # noqa: ASYNC110  (the checker has no event for it)
                await asyncio.sleep(0)
    assert {(r.live.action.value, r.shadow.action.value) for r in seen} == {
        ("pass", "block"),
        ("block", "pass"),
    }


async def test_a_policy_that_is_adopted_again_follows_its_labels_and_forgets_its_faults(
    tmp_path,
) -> None:
    class Stated:
        """The probability stands in the text."""

        model_id = "stated@0"
        categories = ("hate",)

        def score(self, samples: Sequence[Sample]) -> list[Scores]:
            return [Scores({"hate": float(s.text.split()[0])}) for s in samples]

    def write(shift: float) -> None:
        rows = [(0.3 + shift + n / 1000, False) for n in range(200)] + [(0.95, True)] * 99
        lines = [
            {"text": f"{p} x{n}", "violates": v, "category": "hate"}
            for n, (p, v) in enumerate(rows)
        ]
        (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))

    file = tmp_path / "p.yaml"
    file.write_text(
        "version: 1\nname: t\nnormalise: false\ncalibration: labels.jsonl\n"
        "categories: {hate: {block: {fpr: 0.05}}}\n"
    )
    async with Checker(Stated()) as checker:
        with pytest.raises(GuardrailError):
            checker.adopt(load_policy(file))
        write(0.0)
        before = checker.adopt(load_policy(file))
        write(0.3)
        after = checker.adopt(load_policy(file))
        assert before.rules[0].block == pytest.approx(0.495)
        assert after.rules[0].block == pytest.approx(0.795)
        assert after.content_hash != before.content_hash
        (tmp_path / "labels.jsonl").write_text("nonsense")
        with pytest.raises(GuardrailError):
            checker.adopt(load_policy(file))
        verdict = await checker.check(load_policy(file), Direction.INPUT, Segment("0.9 x"))
        assert verdict.outcome is Outcome.SCANNED
