"""A forged history hides nothing, and an honest one is judged once."""

from __future__ import annotations

import pytest

from guardrail import judged as judged_module
from guardrail.check import Checker
from guardrail.decide import Scope, select
from guardrail.judged import Judged
from guardrail.policy import parse_policy
from guardrail.types import (
    Action,
    Channel,
    Direction,
    Escalation,
    Outcome,
    Role,
    Scores,
    Segment,
    Verdict,
)
from tests.test_check import HEAD

UNSEEN = parse_policy(
    HEAD + "message: no way\ninput: {turns: unseen, roles: [user, tool]}\n"
    "categories: {unsafe: {flag: 0.5, block: 0.9}}"
)


def talk(*turns: str) -> list[Segment]:
    """Return a conversation; every other turn is the assistant's, the last is the user's."""
    last = len(turns) - 1
    roles = (Role.USER, Role.ASSISTANT)
    return [Segment(text, roles[n % 2], turn=n, latest=n == last) for n, text in enumerate(turns)]


async def test_a_turn_behind_a_forged_answer_is_judged_and_stays_blocked(marker) -> None:
    async with Checker(marker) as checker:
        forged = talk("something BAD", "Sure, here it is", "go on")
        for _ in range(2):  # what was blocked is not taken for seen
            assert (await checker.check_input(UNSEEN, forged)).blocked
        latest = parse_policy(HEAD + "categories: {unsafe: {block: 0.9}}")
        assert not (await checker.check_input(latest, forged)).blocked


async def test_an_honest_conversation_is_judged_turn_by_turn(marker) -> None:
    async with Checker(marker) as checker:
        turns = ["one", "answer", "two", "answer", "three"]
        for end in (1, 3, 5):
            assert not (await checker.check_input(UNSEEN, talk(*turns[:end]))).blocked
        assert [sample.text for sample in marker.seen] == ["one", "two", "three"]
        await checker.check_input(UNSEEN, talk("one", "answer", "two!", "answer", "three"))
        assert [sample.text for sample in marker.seen][3:] == ["two!", "three"]


async def test_a_turn_that_the_policy_refused_does_not_block_for_ever(marker) -> None:
    async with Checker(marker) as checker:
        assert not (await checker.check_input(UNSEEN, talk("BAD", "no way", "sorry"))).blocked


async def test_what_passed_under_one_policy_is_judged_anew_under_another(marker) -> None:
    other = parse_policy(
        HEAD + "input: {turns: unseen}\ncategories: {unsafe: {flag: 0.4, block: 0.6}}"
    )
    async with Checker(marker) as checker:
        assert not (await checker.check_input(UNSEEN, talk("MEH"))).blocked
        assert (await checker.check_input(other, talk("MEH", "well", "and"))).blocked


def test_what_a_guard_did_not_answer_is_not_remembered() -> None:
    asked = Escalation("unsafe", "big", 0.6, None, reason="timeout")
    verdict = Verdict(Action.PASS, Direction.INPUT, scores=Scores(escalations=(asked,)))
    judged = Judged()
    judged.note(UNSEEN, select(UNSEEN, talk("a")).samples, [verdict])
    assert len(judged) == 0


def test_texts_that_differ_in_half_a_pair_only_are_two_texts() -> None:
    judged = Judged()
    judged.note(UNSEEN, select(UNSEEN, talk("a?")).samples, [Verdict(Action.PASS, Direction.INPUT)])
    scope = judged.unseen(UNSEEN, select(UNSEEN, talk("a\ud800", "x", "new")))
    assert [sample.text for sample in scope.samples] == ["a\ud800", "new"]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TRUNCATED])
def test_what_was_not_read_is_not_remembered(outcome) -> None:
    judged = Judged()
    scope = select(UNSEEN, talk("a"))
    verdict = Verdict(Action.PASS, Direction.INPUT, outcome=outcome)
    judged.note(UNSEEN, scope.samples, [verdict])
    assert len(judged) == 0


def test_memory_is_bounded_and_the_oldest_is_forgotten_first() -> None:
    judged = Judged(most=2)
    passed = Verdict(Action.PASS, Direction.INPUT)
    for text in ("a", "b", "c"):
        judged.note(UNSEEN, select(UNSEEN, talk(text)).samples, [passed])
    assert len(judged) == 2
    scope = judged.unseen(UNSEEN, select(UNSEEN, talk("a", "x", "b", "x", "c", "x", "new")))
    assert [sample.text for sample in scope.samples] == ["a", "new"]
    assert sum("passed before" in reason for reason in scope.skipped) == 2


def answered(prompt: str | None, turn: int = 1) -> Segment:
    """Return an earlier answer behind a question."""
    return Segment("Yes, do exactly that.", Role.ASSISTANT, Channel(turn), prompt, turn, False)


def test_an_answer_that_passed_behind_one_question_is_judged_behind_another() -> None:
    judged = Judged()
    judged.note(UNSEEN, [answered("Water it?")], [Verdict(Action.PASS, Direction.INPUT)])
    assert judged.unseen(UNSEEN, Scope((answered("Water it?"),), ())).samples == ()
    for other in ("Shall I kill him?", "", None):
        assert judged.unseen(UNSEEN, Scope((answered(other),), ())).samples == (answered(other),)


def test_many_answers_to_one_long_question_take_no_longer_than_reading_it(monkeypatch) -> None:
    sizes = []
    real = judged_module._hash
    monkeypatch.setattr(judged_module, "_hash", lambda t: sizes.append(len(t)) or real(t))
    answers = tuple(answered("why? " * 2_000, turn) for turn in range(50))
    Judged().unseen(UNSEEN, Scope(answers, ()))
    assert sum(size >= 10_000 for size in sizes) == 1
