from __future__ import annotations

from dataclasses import replace

from guardrail.audit import Decision, Origin, Trail
from guardrail.check import Checker
from guardrail.policy import parse_policy
from guardrail.redact import unredactable
from guardrail.stream import StreamStats
from guardrail.types import Action, Channel, ChannelKind, Direction, Outcome, Role, Segment
from tests.audit.conftest import POLICY

PLAIN = replace(
    parse_policy(
        "version: 1\nname: t\naudit: {text: plain}\n"
        "categories: {unsafe: {flag: 0.5, block: 0.9, review: [0.6, 0.8]}}"
    )
)
REDACTING = parse_policy(
    "version: 1\nname: r\ncategories: {personal: {detectors: [email], action: redact}}"
)
TOOL = Channel(0, ChannelKind.TOOL_ARGUMENTS)


class Kept(list[Decision]):
    accepts = True

    def add(self, decision: Decision) -> bool:
        self.append(decision)
        return True


def trail(policy=POLICY) -> tuple[Kept, Trail]:
    kept = Kept()
    return kept, Trail(kept, Origin("r", "proxy"), policy, clock=lambda: 5.0)


async def test_every_text_of_a_request_is_one_decision(marker) -> None:
    kept, watch = trail()
    segments = [
        Segment("fine", Role.USER, Channel(1), turn=1),
        Segment("BAD", Role.TOOL, Channel(2, ChannelKind.TOOL_RESULT), turn=2),
        Segment("you are", Role.SYSTEM, Channel(0), turn=0),
    ]
    async with Checker(marker) as checker:
        await checker.check_input(POLICY, segments, watch=watch)
    # The checks run side by side: which is done first is open.
    assert [one.id for one in kept] == ["r-1", "r-2"]
    decided = {one.role: one.verdict.action for one in kept}
    assert decided == {Role.USER: Action.PASS, Role.TOOL: Action.BLOCK}
    assert all(one.final and one.text is None for one in kept)
    assert "role system is not in input.roles" in kept[0].extra["skipped"][0]
    assert "skipped" not in kept[1].extra


async def test_what_was_not_read_is_recorded_as_such(marker) -> None:
    kept, watch = trail()
    async with Checker(marker) as checker:
        await checker.check_input(POLICY, [], opaque=True, watch=watch)
        await checker.check_input(POLICY, [], watch=watch)
        many = [Segment("x", Role.USER, Channel(n), turn=5 * n) for n in range(2000)]
        await checker.check_input(POLICY, many, watch=watch)
    assert [(one.verdict.outcome, one.verdict.action) for one in kept] == [
        (Outcome.FAILED, Action.BLOCK),
        (Outcome.SKIPPED, Action.PASS),
        (Outcome.FAILED, Action.BLOCK),
    ]
    reasons = [f.reason for one in kept for f in one.verdict.findings]
    assert reasons == ["unreadable", "too_large"]


async def test_a_channel_of_an_answer_is_one_decision_of_its_worst_window(marker) -> None:
    kept, watch = trail(PLAIN)
    async with Checker(marker) as checker:
        for text, context in (("one", ""), ("two MEH", "one"), ("three", "two ")):
            await checker.check(
                PLAIN, Direction.OUTPUT, Segment(text, Role.ASSISTANT, prompt="why?"),
                context=context, watch=watch,
            )  # fmt: skip
        await checker.check(
            PLAIN, Direction.OUTPUT, Segment("{}", Role.ASSISTANT, TOOL), watch=watch
        )
    [early] = kept
    assert (early.final, early.verdict.action, early.checks) == (False, Action.FLAG, 2)
    watch.finish("ok", StreamStats(max_held_ms=12.5, exposed_chars=3))
    text, tool = kept[1:]
    assert (text.id, text.final, text.checks) == (early.id, True, 3)
    assert text.verdict.review
    assert text.text == "onetwo MEH"
    assert text.prompt == "why?"
    assert (text.held_ms, text.extra["exposed_chars"], text.ended) == (12.5, 3, "ok")
    assert text.total_chars == text.scanned_chars == len("onetwo MEHthree") - len("")
    assert (tool.id, tool.verdict.action, tool.channel) == (
        "r-2", Action.PASS, "tool_arguments[0.0]",
    )  # fmt: skip


async def test_an_answer_that_cannot_be_read_is_a_decision(marker) -> None:
    kept, watch = trail()
    watch.finish("upstream_unreadable", StreamStats(), "unreadable")
    [found] = kept
    assert found.verdict.blocked
    assert found.direction is Direction.OUTPUT
    assert found.verdict.findings[0].reason == "unreadable"


async def test_an_answer_blocked_without_a_check_is_recorded_as_blocked(marker) -> None:
    kept, watch = trail()
    async with Checker(marker) as checker:
        said = Segment("fine", Role.ASSISTANT)
        passed = await checker.check(POLICY, Direction.OUTPUT, said, watch=watch)
    assert not passed.blocked
    watch.finish("blocked_output", StreamStats(), verdict=unredactable(REDACTING, Direction.OUTPUT))
    assert [one.verdict.action for one in kept] == [Action.PASS, Action.BLOCK]
    assert kept[1].verdict.findings[0].reason == "unredactable"
    assert {one.ended for one in kept} == {"blocked_output"}


async def test_an_answer_blocked_by_a_check_is_recorded_once(marker) -> None:
    kept, watch = trail()
    async with Checker(marker) as checker:
        said = Segment("BAD", Role.ASSISTANT)
        verdict = await checker.check(POLICY, Direction.OUTPUT, said, watch=watch)
    kept.clear()
    watch.finish("blocked_output", StreamStats(), verdict=verdict)
    assert [one.verdict.action for one in kept] == [Action.BLOCK]


async def test_a_long_text_is_kept_up_to_a_bound(marker) -> None:
    kept, watch = trail(PLAIN)
    async with Checker(marker) as checker:
        await checker.check(PLAIN, Direction.INPUT, Segment("x" * 100_000), watch=watch)
    assert len(kept[0].text or "") == 32_000
    assert kept[0].total_chars == 100_000
