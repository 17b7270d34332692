"""What breaker, retry budget and cache promise."""

from __future__ import annotations

from dataclasses import replace

from guardrail.classifier.base import Sample
from guardrail.classifier.resilience import AnswerCache, Breaker, RetryBudget
from guardrail.types import Role


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_opens_after_failures_in_a_row_and_lets_one_trial_through() -> None:
    clock = Clock()
    breaker = Breaker(3, 5.0, clock)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(3):
        assert breaker.allow()
        breaker.failed()
    assert not breaker.allow()
    clock.now += 5.1
    assert breaker.allow()
    assert not breaker.allow(), "one trial, not a stampede"
    breaker.succeeded()
    assert breaker.allow()
    assert breaker.allow()


def test_a_failed_trial_opens_the_breaker_again() -> None:
    clock = Clock()
    breaker = Breaker(1, 5.0, clock)
    breaker.failed()
    clock.now += 6
    assert breaker.allow()
    breaker.failed()
    clock.now += 1
    assert not breaker.allow()


def test_a_guard_that_asks_to_be_left_alone_is_left_alone_but_not_for_ever() -> None:
    clock = Clock()
    breaker = Breaker(5, 5.0, clock)
    breaker.failed(wait_s=1e9)
    assert not breaker.allow()
    clock.now += Breaker.LONGEST_S + 1
    assert breaker.allow()


def test_retries_are_a_share_of_the_requests() -> None:
    budget = RetryBudget(0.1, 2.0)
    assert [budget.take() for _ in range(3)] == [True, True, False]
    for _ in range(100):
        budget.earn()
    assert [budget.take() for _ in range(3)] == [True, True, False]


def test_a_cache_is_bounded_and_keeps_what_is_used() -> None:
    cache = AnswerCache(2)
    cache.put(b"a", {"x": 1})
    cache.put(b"b", {"x": 2})
    assert cache.get(b"a") == {"x": 1}
    cache.put(b"c", {"x": 3})
    assert (cache.get(b"b"), cache.get(b"a"), len(cache)) == (None, {"x": 1}, 2)
    none = AnswerCache(0)
    none.put(b"a", {"x": 1})
    assert none.get(b"a") is None


def test_the_key_tells_apart_all_that_an_answer_depends_on() -> None:
    base = Sample("text", Role.USER, None, "")
    others = [
        replace(base, text="tex", context="t"),
        replace(base, role=Role.ASSISTANT),
        replace(base, prompt=""),
        replace(base, prompt="x"),
        replace(base, text="text\ud800"),
    ]
    keys = {AnswerCache.key(s, ("hate",)) for s in (base, *others)}
    keys.add(AnswerCache.key(base, ("hate", "drugs")))
    assert len(keys) == 7
