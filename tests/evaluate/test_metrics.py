"""The measures agree with scikit-learn, and say NaN where they are not defined."""

from __future__ import annotations

import math

import numpy as np
import pytest

from guardrail.evaluate import metrics

sklearn = pytest.importorskip("sklearn.metrics")


def drawn(seed: int, n: int = 300, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(float)
    scores = np.clip(rng.normal(0.35 + 0.3 * labels, 0.2), 0, 1)
    return labels, np.round(scores, 1) if ties else scores


CASES = [drawn(seed, ties=ties) for seed in range(4) for ties in (False, True)]


@pytest.mark.parametrize(("labels", "scores"), CASES)
def test_average_precision_agrees(labels: np.ndarray, scores: np.ndarray) -> None:
    expected = sklearn.average_precision_score(labels, scores)
    assert metrics.average_precision(labels, scores) == pytest.approx(expected)


@pytest.mark.parametrize(("labels", "scores"), CASES)
def test_roc_auc_agrees(labels: np.ndarray, scores: np.ndarray) -> None:
    expected = sklearn.roc_auc_score(labels, scores)
    assert metrics.roc_auc(labels, scores) == pytest.approx(expected)


@pytest.mark.parametrize(("labels", "scores"), CASES)
def test_brier_agrees(labels: np.ndarray, scores: np.ndarray) -> None:
    expected = sklearn.brier_score_loss(labels, scores)
    assert metrics.brier(labels, scores) == pytest.approx(expected)


@pytest.mark.parametrize(("labels", "scores"), CASES)
def test_best_f1_is_the_best_of_all_thresholds(labels: np.ndarray, scores: np.ndarray) -> None:
    best, threshold = metrics.best_f1(labels, scores)
    every = [sklearn.f1_score(labels, scores >= t) for t in np.unique(scores)]
    assert best == pytest.approx(max(every))
    assert metrics.f1_at(labels, scores, threshold) == pytest.approx(best)


@pytest.mark.parametrize(("labels", "scores"), CASES)
def test_recall_at_a_false_positive_rate_agrees(labels: np.ndarray, scores: np.ndarray) -> None:
    fpr, recall, _ = sklearn.roc_curve(labels, scores, drop_intermediate=False)
    for limit in (0.0, 0.01, 0.1, 1.0):
        expected = recall[fpr <= limit].max()
        assert metrics.recall_at_fpr(labels, scores, limit) == pytest.approx(expected)


def test_ece_is_the_weighted_gap_of_its_bins() -> None:
    labels = np.array([1.0, 0.0, 1.0, 1.0])
    probabilities = np.array([0.95, 0.95, 0.05, 0.05])
    # One bin says 0.95 and holds 0.5, the other says 0.05 and holds 1.
    assert metrics.ece(labels, probabilities, 10) == pytest.approx(0.5 * 0.45 + 0.5 * 0.95)


def test_ece_of_labels_drawn_from_their_probabilities_is_small() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(20_000)
    labels = (rng.random(20_000) < probabilities).astype(float)
    assert metrics.ece(labels, probabilities) < 0.02


def test_a_probability_of_one_falls_into_the_last_bin() -> None:
    count, mean, share = metrics.reliability(np.array([1.0]), np.array([1.0]), 5)
    assert (count[4], mean[4], share[4]) == (1, 1, 1)


@pytest.mark.parametrize("labels", [np.zeros(3), np.ones(3), np.zeros(0)])
def test_one_class_alone_is_not_a_number(labels: np.ndarray) -> None:
    scores = np.linspace(0, 1, len(labels))
    assert math.isnan(metrics.average_precision(labels, scores))
    assert math.isnan(metrics.roc_auc(labels, scores))
    assert math.isnan(metrics.best_f1(labels, scores)[0])
    assert math.isnan(metrics.recall_at_fpr(labels, scores))


def test_a_bootstrap_interval_holds_the_value_and_repeats_itself() -> None:
    labels, scores = CASES[0]
    one = metrics.bootstrap(metrics.average_precision, labels, scores, rounds=50)
    assert one.low < one.value < one.high
    assert one == metrics.bootstrap(metrics.average_precision, labels, scores, rounds=50)


def test_no_rounds_mean_no_interval() -> None:
    labels, scores = CASES[0]
    assert math.isnan(metrics.bootstrap(metrics.roc_auc, labels, scores, rounds=0).low)


def test_log_loss_agrees_with_scikit_learn_and_never_is_infinite() -> None:
    labels, scores = CASES[0]
    expected = sklearn.log_loss(labels, np.clip(scores, 1e-6, 1 - 1e-6))
    assert metrics.log_loss(labels, np.clip(scores, 0, 1)) == pytest.approx(expected, rel=1e-3)
    assert metrics.log_loss(np.array([1.0]), np.array([0.0])) < 14
    assert math.isnan(metrics.log_loss(np.zeros(0), np.zeros(0)))


def test_a_paired_interval_is_narrower_than_two_apart() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.4).astype(float)
    first = np.clip(labels * 0.3 + rng.random(400) * 0.6, 0, 1)
    second = np.clip(first + rng.normal(0, 0.01, 400), 0, 1)
    both = metrics.paired(metrics.brier, labels, first, second, rounds=100)
    alone = metrics.bootstrap(metrics.brier, labels, first, rounds=100)
    assert both.low <= both.value <= both.high
    assert both.high - both.low < (alone.high - alone.low) / 3
    assert both.value == metrics.brier(labels, second) - metrics.brier(labels, first)
    assert metrics.paired(metrics.brier, labels, first, first, rounds=9).high == 0.0


def test_resamples_that_a_measure_does_not_define_are_left_out() -> None:
    labels = np.array([1.0] + [0.0] * 20)
    found = metrics.bootstrap(metrics.roc_auc, labels, np.linspace(1, 0, 21), rounds=30)
    assert (found.low, found.high) == (1.0, 1.0)
