"""Where to ask a bigger guard: bands, what they cost and what they bring, on labelled texts.

Pure numpy. A cascade's score is the bigger guard's inside the band and the small model's outside,
so that recall at a false-alarm rate is read off one list of scores. Half of the rows choose band
and threshold, the other half says how good they are: what is reported was not chosen on the rows
that it is reported of.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.bounds import interval, upper
from guardrail.classifier.calibration import Platt, fit_platt, sigmoid
from guardrail.errors import DataError
from guardrail.evaluate.metrics import curve

__all__ = [
    "SHARES",
    "Choice",
    "Goal",
    "Pairs",
    "averaged",
    "calibrated",
    "cascaded",
    "choose",
    "frontier",
    "oracle",
]

Floats = NDArray[np.float64]

SHARES: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Shares of escalated texts at which the trade-off is drawn."""
FOLDS: Final = 5
LEAST: Final = 20
"""Fewest violating, and other, texts in each half that a band is chosen on."""
CLIP: Final = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Labelled texts that both models have scored.

    Args:
        small: float64 (n,), the embedded model's probability.
        big: float64 (n,), the guard's.
        labels: int64 (n,), 1 violates, 0 does not.
    """

    small: Floats
    big: Floats
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[Any]) -> Pairs:
        """Return some rows."""
        return Pairs(self.small[rows], self.big[rows], self.labels[rows])

    def halves(self, seed: int = 0) -> tuple[Pairs, Pairs]:
        """Return two halves with the labels shared out evenly: to choose on, to measure on."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self))
        order = order[np.argsort(self.labels[order], kind="stable")]
        return self.take(np.sort(order[0::2])), self.take(np.sort(order[1::2]))


@dataclass(frozen=True, slots=True)
class Goal:
    """What a band is to achieve.

    Args:
        fpr: False-alarm rate at which recall is read.
        escalated: Most of the texts that may be escalated; the best recall within is taken.
        recall: Least recall; the fewest escalated texts that reach it are taken.
    """

    fpr: float = 0.01
    escalated: float | None = None
    recall: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A band with its threshold, and what it does on some rows.

    Args:
        low: Lower end; equal to ``high`` where nothing is escalated.
        high: Upper end.
        threshold: Score from which the rule acts.
        share: Share of the rows that are escalated.
        recall: Share of the violating rows that cross the threshold.
        fpr: Share of the others that do.
        share_interval: Its exact 95 % interval.
        recall_interval: The same.
        fpr_interval: The same.
    """

    low: float
    high: float
    threshold: float
    share: float
    recall: float
    fpr: float
    share_interval: tuple[float, float] = (0.0, 1.0)
    recall_interval: tuple[float, float] = (0.0, 1.0)
    fpr_interval: tuple[float, float] = (0.0, 1.0)

    def on(self, rows: Pairs) -> Choice:
        """Return the same band and threshold as they do on other rows, with intervals."""
        inside = _inside(rows.small, self.low, self.high)
        crossed = cascaded(rows, self.low, self.high) >= self.threshold
        bad, good = rows.labels == 1, rows.labels == 0
        counts = [
            (int(inside.sum()), len(rows)),
            (int((crossed & bad).sum()), int(bad.sum())),
            (int((crossed & good).sum()), int(good.sum())),
        ]
        share, recall, fpr = (k / n if n else float("nan") for k, n in counts)
        spans = [interval(k, n) if n else (0.0, 1.0) for k, n in counts]
        return replace(
            self,
            share=share,
            recall=recall,
            fpr=fpr,
            share_interval=spans[0],
            recall_interval=spans[1],
            fpr_interval=spans[2],
        )


def calibrated(rows: Pairs, seed: int = 0) -> tuple[Pairs, Platt]:
    """Calibrate the guard on the rows.

    Args:
        rows: Labelled rows with the guard's raw numbers.
        seed: Seed of the folds.

    Returns:
        The rows with each one's number calibrated on the other folds, and the fit on all of them,
        which is what a policy gets.
    """
    logits = _logit(rows.big)
    labels = rows.labels.astype(np.float64)
    folds = np.random.default_rng(seed).permutation(len(rows)) % FOLDS
    out = np.empty(len(rows))
    for fold in range(FOLDS):
        here = folds == fold
        out[here] = fit_platt(logits[~here], labels[~here]).apply(logits[here])
    return replace(rows, big=out), fit_platt(logits, labels)


def cascaded(rows: Pairs, low: float, high: float) -> Floats:
    """Return the cascade's scores: the guard's inside the band, the small model's outside."""
    return np.where(_inside(rows.small, low, high), rows.big, rows.small)


def oracle(rows: Pairs) -> Pairs:
    """Return the rows with a guard that is always right: a bound, not a result."""
    return replace(rows, big=np.where(rows.labels == 1, 1 - CLIP, CLIP))


def averaged(rows: Pairs) -> Pairs:
    """Return the rows with the mean of both logits as the guard's: ``combine: mean``."""
    return replace(rows, big=sigmoid((_logit(rows.small) + _logit(rows.big)) / 2))


def choose(rows: Pairs, goal: Goal) -> Choice:
    """Find the band that meets a goal.

    Args:
        rows: Rows to choose on.
        goal: What to achieve; by default the best recall whatever it costs.

    Returns:
        The band, its threshold and what they do on these rows.

    Raises:
        DataError: There are too few rows, or no band reaches the goal; says what would.
    """
    _enough(rows)
    found = list(_choices(rows, goal.fpr))
    if goal.recall is None:
        most = 1.0 if goal.escalated is None else goal.escalated
        fitting = [c for c in found if c.share <= most]
        # The share must hold beyond these rows, so its upper bound has to stay within as well,
        # where the rows are enough to show it.
        n = len(rows)
        held = [c for c in fitting if upper(round(c.share * n), n, 0.9) <= most or c.share == 0.0]
        return max(held or fitting, key=lambda c: (c.recall, -c.share))
    reaching = [c for c in found if c.recall >= goal.recall]
    if not reaching:
        best = max(found, key=lambda c: (c.recall, -c.share))
        raise DataError(
            f"no band reaches recall {goal.recall:g} at {goal.fpr:.1%} false alarms: the best is "
            f"{best.recall:.3f}, with {best.share:.1%} escalated; ask for less, or use a better "
            "guard"
        )
    return min(reaching, key=lambda c: (c.share, -c.recall))


def frontier(
    rows: Pairs, fpr: float, shares: Sequence[float] = SHARES, on: Pairs | None = None
) -> list[tuple[float, Choice]]:
    """Return the best band for each share of escalated texts.

    Args:
        rows: Rows to choose on.
        fpr: False-alarm rate at which recall is read.
        shares: The shares.
        on: Rows to measure on; the same where None.
    """
    _enough(rows)
    found = list(_choices(rows, fpr))
    best = (
        (share, max((c for c in found if c.share <= share), key=lambda c: (c.recall, -c.share)))
        for share in shares
    )
    return [(share, choice.on(rows if on is None else on)) for share, choice in best]


def _choices(rows: Pairs, fpr: float) -> Iterator[Choice]:
    """Walk over all bands between quantiles, the empty one and the full one first."""
    edges = _edges(rows)
    bands = [(0.0, 0.0), (0.0, 1.0), *itertools.combinations(edges, 2)]
    for low, high in bands:
        points = curve(rows.labels, cascaded(rows, low, high))
        allowed = np.nonzero(points.fpr <= fpr)[0]
        share = float(_inside(rows.small, low, high).mean())
        if not len(allowed):  # the likeliest texts are too many false alarms: nothing may act
            yield Choice(low, high, 1.0, share, 0.0, 0.0)
            continue
        at = int(allowed[-1])
        yield Choice(
            low,
            high,
            float(points.thresholds[at]),
            share,
            float(points.recall[at]),
            float(points.fpr[at]),
        )


def _edges(rows: Pairs) -> list[float]:
    """Return ends of bands: quantiles of both sides, denser where false alarms are few."""
    good = np.quantile(rows.small[rows.labels == 0], [0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99])
    bad = np.quantile(rows.small[rows.labels == 1], np.arange(0.05, 1.0, 0.1))
    ends = np.concatenate([[0.0], good, bad, [1.0]])
    return [float(edge) for edge in np.unique(np.round(ends, 4))]


def _inside(small: Floats, low: float, high: float) -> NDArray[np.bool_]:
    # A band up to 1 takes all that lies above; a policy's band leaves out 1 itself, which only
    # a pattern gives.
    return (small >= low) & (small < high) if low < high else np.zeros(len(small), dtype=bool)


def _enough(rows: Pairs) -> None:
    bad = int(rows.labels.sum())
    if min(bad, len(rows) - bad) < LEAST:
        raise DataError(
            f"too few labelled texts: {bad} that violate and {len(rows) - bad} that do not in the "
            f"half that the band is chosen on; it takes {LEAST} of each at least"
        )


def _logit(p: Floats) -> Floats:
    clipped = np.clip(p, CLIP, 1 - CLIP)
    return np.asarray(np.log(clipped / (1 - clipped)))
