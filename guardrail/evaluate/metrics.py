"""Measures of a binary classifier, in plain numpy; tested against scikit-learn.

Labels are 0 or 1, scores any real numbers of which higher means likelier, probabilities in
[0, 1]. A measure that its data does not define (one class only, no rows) is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Curve",
    "Interval",
    "average_precision",
    "best_f1",
    "bootstrap",
    "brier",
    "curve",
    "ece",
    "f1_at",
    "log_loss",
    "paired",
    "recall_at_fpr",
    "reliability",
    "roc_auc",
]

Floats = NDArray[np.float64]
Measure = Callable[[NDArray[Any], NDArray[Any]], float]
NAN = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Counts at every threshold, from the highest score down; equal scores share one point.

    Args:
        thresholds: float64 (points,), falling.
        true: float64 (points,), positives at or above each threshold.
        false: float64 (points,), negatives at or above it.
    """

    thresholds: Floats
    true: Floats
    false: Floats

    @property
    def precision(self) -> Floats:
        """float64 (points,), ``TP / (TP + FP)``."""
        return self.true / np.maximum(self.true + self.false, 1.0)

    @property
    def recall(self) -> Floats:
        """float64 (points,), ``TP / P``."""
        return self.true / max(float(self.true[-1]), 1.0)

    @property
    def fpr(self) -> Floats:
        """float64 (points,), ``FP / N``."""
        return self.false / max(float(self.false[-1]), 1.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """A measure with its bootstrap percentile interval.

    Args:
        value: On all rows.
        low: 2.5th percentile of the resamples.
        high: 97.5th percentile.
    """

    value: float
    low: float = NAN
    high: float = NAN


def curve(labels: NDArray[Any], scores: NDArray[Any]) -> Curve:
    """Count true and false positives at every distinct score.

    Args:
        labels: 0 or 1, (n,), n at least 1.
        scores: float (n,).
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    sorted_scores = np.asarray(scores, dtype=np.float64)[order]
    sorted_labels = np.asarray(labels, dtype=np.float64)[order]
    last = np.append(np.nonzero(np.diff(sorted_scores))[0], len(sorted_scores) - 1)
    true = np.cumsum(sorted_labels)[last]
    return Curve(sorted_scores[last], true, last + 1.0 - true)


def _both(labels: NDArray[Any]) -> bool:
    total = float(np.sum(labels))
    return 0.0 < total < len(labels)


def average_precision(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """AUPRC as average precision: ``sum_n (R_n - R_(n-1)) * P_n`` over falling thresholds."""
    if not _both(labels):
        return NAN
    c = curve(labels, scores)
    return float(np.sum(np.diff(c.recall, prepend=0.0) * c.precision))


def roc_auc(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """AUROC: the trapezoid area under recall over false-positive rate; ties count half."""
    if not _both(labels):
        return NAN
    c = curve(labels, scores)
    recall, fpr = np.insert(c.recall, 0, 0.0), np.insert(c.fpr, 0, 0.0)
    return float(np.sum(np.diff(fpr) * (recall[1:] + recall[:-1]) / 2))


def f1_at(labels: NDArray[Any], scores: NDArray[Any], threshold: float) -> float:
    """F1 of "score at or above the threshold": ``2 TP / (2 TP + FP + FN)``."""
    if not _both(labels):
        return NAN
    flagged = np.asarray(scores) >= threshold
    positive = np.asarray(labels) > 0.5
    true = float(np.sum(flagged & positive))
    return 2 * true / max(float(np.sum(flagged)) + float(np.sum(positive)), 1.0)


def best_f1(labels: NDArray[Any], scores: NDArray[Any]) -> tuple[float, float]:
    """Return the highest F1 over all thresholds, and the threshold that gives it."""
    if not _both(labels):
        return NAN, NAN
    c = curve(labels, scores)
    f1 = 2 * c.true / (c.true + c.false + c.true[-1])
    best = int(np.argmax(f1))
    return float(f1[best]), float(c.thresholds[best])


def recall_at_fpr(labels: NDArray[Any], scores: NDArray[Any], limit: float = 0.01) -> float:
    """Return the highest recall whose false-positive rate is at most ``limit``."""
    if not _both(labels):
        return NAN
    c = curve(labels, scores)
    allowed = c.fpr <= limit
    return float(c.recall[allowed].max()) if allowed.any() else 0.0


def reliability(
    labels: NDArray[Any], probabilities: NDArray[Any], bins: int = 15
) -> tuple[Floats, Floats, Floats]:
    """Sort probabilities into bins of equal width.

    Returns:
        float64 (bins,) each: rows of the bin, their mean probability, and their share of
        positives; the latter two are 0 for an empty bin.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    y = np.asarray(labels, dtype=np.float64)
    at = np.minimum((p * bins).astype(np.int64), bins - 1)
    count = np.bincount(at, minlength=bins).astype(np.float64)
    safe = np.maximum(count, 1.0)
    mean = np.bincount(at, weights=p, minlength=bins) / safe
    share = np.bincount(at, weights=y, minlength=bins) / safe
    return count, mean, share


def ece(labels: NDArray[Any], probabilities: NDArray[Any], bins: int = 15) -> float:
    """Expected calibration error (Naeini et al. 2015), over bins of equal width.

    ``sum_b n_b / n * |share of positives_b - mean probability_b|``.
    """
    if not len(labels):
        return NAN
    count, mean, share = reliability(labels, probabilities, bins)
    return float(np.sum(count * np.abs(share - mean)) / len(labels))


def brier(labels: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """Brier score: ``mean((p - y)^2)``."""
    if not len(labels):
        return NAN
    gap = np.asarray(probabilities, dtype=np.float64) - np.asarray(labels, dtype=np.float64)
    return float(np.mean(gap**2))


def log_loss(labels: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """Mean of ``-log`` of the probability of what was the case, kept from 0 by 1e-6."""
    if not len(labels):
        return NAN
    y = np.asarray(labels, dtype=np.float64)
    p = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-6, 1 - 1e-6)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p)))


def bootstrap(
    measure: Measure,
    labels: NDArray[Any],
    scores: NDArray[Any],
    *,
    rounds: int = 200,
    seed: int = 0,
) -> Interval:
    """Measure with a percentile interval (Efron 1979), resampling rows with replacement.

    Args:
        measure: Takes labels and scores.
        labels: (n,).
        scores: (n,).
        rounds: Resamples; 0 for no interval.
        seed: Seed of the resampling.
    """
    return _spread(lambda rows: measure(labels[rows], scores[rows]), len(labels), rounds, seed)


def paired(
    measure: Measure,
    labels: NDArray[Any],
    first: NDArray[Any],
    second: NDArray[Any],
    *,
    rounds: int = 200,
    seed: int = 0,
) -> Interval:
    """Measure the second scores less the first, with an interval from the same resamples of both.

    Rows that are easy for both are drawn for both, so that the interval is that of the
    difference and not as wide as those of the two together.

    Args:
        measure: Takes labels and scores.
        labels: (n,).
        first: (n,).
        second: (n,), of the same rows.
        rounds: Resamples; 0 for no interval.
        seed: Seed of the resampling.
    """

    def gap(rows: NDArray[np.int64]) -> float:
        return measure(labels[rows], second[rows]) - measure(labels[rows], first[rows])

    return _spread(gap, len(labels), rounds, seed)


def _spread(
    measure: Callable[[NDArray[np.int64]], float], n: int, rounds: int, seed: int
) -> Interval:
    value = measure(np.arange(n))
    if not rounds or np.isnan(value):
        return Interval(value)
    rng = np.random.default_rng(seed)
    draws = np.array([measure(rng.integers(0, n, n)) for _ in range(rounds)])
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return Interval(value)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(value, float(low), float(high))
