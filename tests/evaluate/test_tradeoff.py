"""What solving for a band promises."""

from __future__ import annotations

import numpy as np
import pytest

from guardrail.errors import DataError
from guardrail.evaluate.tradeoff import (
    Goal,
    Pairs,
    averaged,
    calibrated,
    cascaded,
    choose,
    frontier,
    oracle,
)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def made(n: int = 4000, informed: float = 4.0, seed: int = 1) -> Pairs:
    """A small model that is unsure in the middle, and a guard that knows more."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(np.int64)
    side = 2.0 * labels - 1.0
    small = sigmoid(1.2 * side + rng.normal(0, 1.2, n) - 0.5)
    big = sigmoid((informed * side + rng.normal(0, 2, n)) * 0.3 + 1.0)  # informed, miscalibrated
    return Pairs(small, big, labels)


ROWS = calibrated(made())[0]
OURS, THEIRS = ROWS.halves()


def test_the_cascade_is_the_guard_inside_the_band_and_the_small_model_outside() -> None:
    rows = Pairs(np.array([0.1, 0.3, 0.8]), np.array([0.9, 0.7, 0.2]), np.array([0, 1, 1]))
    assert cascaded(rows, 0.3, 0.8).tolist() == [0.1, 0.7, 0.8]
    assert cascaded(rows, 0.0, 0.0).tolist() == rows.small.tolist()
    assert averaged(rows).big[0] == pytest.approx(0.5)


def test_calibration_makes_the_guard_s_numbers_mean_what_they_say() -> None:
    raw = made()
    fixed, platt = calibrated(raw)
    assert abs(fixed.big.mean() - raw.labels.mean()) < 0.02 < abs(raw.big.mean() - 0.3)
    assert platt.slope > 0
    assert np.argsort(raw.big)[-1] in np.argsort(fixed.big)[-50:]


def test_a_budget_is_kept_beyond_the_rows_it_was_chosen_on_and_brings_recall() -> None:
    never = choose(OURS, Goal(0.01, escalated=0.0)).on(THEIRS)
    some = choose(OURS, Goal(0.01, escalated=0.1)).on(THEIRS)
    assert never.share == 0.0
    assert some.share_interval[0] <= 0.1
    assert some.share < 0.11
    assert some.recall > never.recall + 0.02
    assert some.recall_interval[0] < some.recall < some.recall_interval[1]


def test_a_recall_is_reached_with_as_few_questions_as_can_be() -> None:
    most = choose(OURS, Goal(0.01))
    goal = Goal(0.01, recall=most.recall - 0.1)
    found = choose(OURS, goal)
    assert found.recall >= most.recall - 0.1
    assert found.share < most.share
    assert found.on(THEIRS).recall > most.recall - 0.2


def test_a_recall_that_no_band_reaches_is_refused_with_the_best() -> None:
    with pytest.raises(DataError, match=r"the best is 0\.\d+, with .* escalated"):
        choose(OURS, Goal(0.01, recall=0.9999))


def test_a_guard_that_knows_nothing_is_not_asked() -> None:
    rng = np.random.default_rng(0)
    rows = made()
    noise = calibrated(Pairs(rows.small, rng.random(len(rows)), rows.labels))[0]
    ours, theirs = noise.halves()
    found = choose(ours, Goal(0.01, escalated=0.3)).on(theirs)
    never = choose(ours, Goal(0.01, escalated=0.0)).on(theirs)
    assert found.recall < never.recall + 0.05


def test_more_questions_are_never_worse_on_the_rows_that_choose_and_an_oracle_bounds_them() -> None:
    points = frontier(OURS, 0.01)
    recalls = [choice.recall for _, choice in points]
    assert recalls == sorted(recalls)
    assert all(choice.share <= share for share, choice in points)
    bound = frontier(oracle(OURS), 0.01)
    assert all(b.recall >= c.recall - 1e-9 for (_, b), (_, c) in zip(bound, points, strict=True))
    assert bound[-1][1].recall == 1.0


def test_the_halves_share_no_row_and_have_the_same_share_of_labels() -> None:
    assert len(OURS) + len(THEIRS) == len(ROWS)
    assert not set(OURS.small) & set(THEIRS.small)
    assert abs(int(OURS.labels.sum()) - int(THEIRS.labels.sum())) <= 1


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(DataError, match="too few labelled texts"):
        choose(ROWS.take(np.arange(30)), Goal())
