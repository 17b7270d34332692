"""What the bounds promise: the textbook's numbers, and coverage."""

from __future__ import annotations

import numpy as np
import pytest

from guardrail.classifier.bounds import interval, lower, needed, upper


@pytest.mark.parametrize(
    ("k", "n", "expected"),
    [(0, 10, (0.0, 0.3085)), (5, 10, (0.1871, 0.8129)), (10, 10, (0.6915, 1.0)),
     (1, 100, (0.00025, 0.05446)), (50, 1000, (0.03733, 0.06539))],
)  # fmt: skip
def test_intervals_are_those_of_the_tables(k, n, expected) -> None:
    assert interval(k, n) == pytest.approx(expected, abs=1e-4)


def test_the_rule_of_three() -> None:
    assert upper(0, 300, 0.95) == pytest.approx(0.00994, abs=1e-4)
    assert needed(0.01, 0.95) == 299
    assert upper(0, 298, 0.95) > 0.01 >= upper(0, 299, 0.95)


def test_bounds_of_nothing_say_nothing() -> None:
    assert (lower(0, 0, 0.95), upper(0, 0, 0.95)) == (0.0, 1.0)
    assert upper(7, 7, 0.95) == 1.0
    assert lower(0, 7, 0.95) == 0.0


@pytest.mark.parametrize("p", [0.01, 0.3, 0.9])
def test_the_bound_holds_as_often_as_it_says(p) -> None:
    draws = np.random.default_rng(1).binomial(150, p, 2000)
    assert np.mean([upper(int(k), 150, 0.9) >= p for k in draws]) >= 0.88


def test_large_counts_stay_exact() -> None:
    assert upper(5_000, 10_000, 0.975) == pytest.approx(0.5098, abs=2e-4)
    assert lower(99_000, 100_000, 0.975) == pytest.approx(0.98936, abs=1e-4)
