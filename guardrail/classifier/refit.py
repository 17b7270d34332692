"""Fits a calibration of the operator's own. Pure numerics over numpy.

How much is fitted depends on how many labels there are, since each method needs more than the one
before it: temperature (one number), Platt (two, by role and length), isotonic regression (a curve;
with under a thousand rows it overfits, Niculescu-Mizil & Caruana 2005). Everything is shrunk to
the calibration that the classifier came with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.calibration import GROUPS, Platt, fit_platt, group_of, sigmoid
from guardrail.classifier.recalibration import (
    LENGTH_EDGES,
    MAX_KNOTS,
    Curve,
    OutputMap,
    length_bucket,
    logit,
)

__all__ = ["METHODS", "Labels", "fit_map", "method_for", "predict"]

Floats = NDArray[np.float64]

METHODS: Final = ("none", "temperature", "platt", "isotonic")
LEAST: Final = {"temperature": 2, "platt": 4, "isotonic": 200}
"""Rows of the rarer class from which a method is used: bench/bench_calibrate.py has Platt's, so
shrunk, ahead of temperature from 25 labels on, and of isotonic regression up to 400."""
GROUP_LEAST: Final = 5
"""Rows of the rarer class from which a role or a length is fitted by itself."""
ISOTONIC_ROWS: Final = 1000
STRENGTH: Final = 2.0
"""Rows for which the calibration that the classifier came with counts."""
GROUP_STRENGTH: Final = 8.0
"""Rows for which the fit over all roles counts in that of one role or length, as in
`guardrail.classifier.calibration.fit_calibration`."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labelled probabilities of one output.

    Args:
        logits: float64 (n,), of the classifier's own probabilities.
        labels: float64 (n,), 0 or 1.
        groups: str (n,), calibration group of each role.
        buckets: int64 (n,), length bucket of each text.
    """

    logits: Floats
    labels: Floats
    groups: NDArray[np.str_]
    buckets: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        probabilities: NDArray[Any],
        labels: NDArray[Any],
        roles: Sequence[str],
        chars: Sequence[int],
    ) -> Labels:
        """Make labels from probabilities, labels (0 or 1), roles and lengths, (n,) each."""
        groups = np.array([group_of(role) for role in roles], dtype=np.str_)
        buckets = np.array([length_bucket(n) for n in chars], dtype=np.int64)
        return cls(logit(probabilities), np.asarray(labels, dtype=np.float64), groups, buckets)

    def rows(self, chosen: NDArray[Any]) -> Labels:
        """Return some of the rows: bool (n,) or indices."""
        return Labels(
            self.logits[chosen], self.labels[chosen], self.groups[chosen], self.buckets[chosen]
        )

    @property
    def rarer(self) -> int:
        """Rows of the rarer class."""
        positive = int(self.labels.sum())
        return min(positive, len(self.labels) - positive)


def method_for(labels: Labels) -> str:
    """Return the richest method that this many labels support."""
    if labels.rarer >= LEAST["isotonic"] and len(labels.labels) >= ISOTONIC_ROWS:
        return "isotonic"
    return next((m for m in ("platt", "temperature") if labels.rarer >= LEAST[m]), "none")


def fit_map(labels: Labels, method: str | None = None) -> OutputMap:
    """Fit one output.

    Args:
        labels: Labelled probabilities.
        method: One of `METHODS`; None for the richest that the labels support.

    Returns:
        The map; the one that changes nothing where there is one class only.
    """
    chosen = method or method_for(labels)
    if chosen == "none" or labels.rarer == 0:
        return OutputMap()
    z, y = labels.logits, labels.labels
    overall = fit_platt(z, y, strength=STRENGTH, slope_only=chosen == "temperature")
    if chosen == "temperature":
        return OutputMap(chosen, dict.fromkeys(GROUPS, overall))
    roles = {g: _group(z, y, labels.groups == g, overall) for g in GROUPS}
    z = _applied(labels.groups, z, roles)
    sizes = range(len(LENGTH_EDGES) + 1)
    lengths = tuple(_group(z, y, labels.buckets == n, Platt()) for n in sizes)
    z = _applied(labels.buckets, z, dict(enumerate(lengths)))
    return OutputMap(chosen, roles, lengths, _curve(z, y) if chosen == "isotonic" else Curve())


def _group(z: Floats, y: Floats, here: NDArray[np.bool_], prior: Platt) -> Platt:
    positive = int(y[here].sum())
    if min(positive, int(here.sum()) - positive) < GROUP_LEAST:
        return prior
    return fit_platt(z[here], y[here], prior=prior, strength=GROUP_STRENGTH)


def _applied(keys: NDArray[Any], z: Floats, maps: dict[Any, Platt]) -> Floats:
    result = z.copy()
    for key, one in maps.items():
        here = keys == key
        result[here] = one.slope * z[here] + one.offset
    return result


def predict(fitted: OutputMap, labels: Labels) -> Floats:
    """Recalibrate every row.

    Returns:
        float64 (n,), probabilities.
    """
    result = np.zeros(len(labels.logits))
    for group in GROUPS:
        for bucket in range(len(LENGTH_EDGES) + 1):
            here = (labels.groups == group) & (labels.buckets == bucket)
            if here.any():
                result[here] = sigmoid(fitted.logits(labels.logits[here], group, bucket))
    return result


def _curve(z: Floats, y: Floats) -> Curve:
    """Fit isotonic regression and join the centres of its blocks, so that ranks are kept.

    Centred isotonic regression (Oron & Flournoy 2017). Each block counts one more row, at the
    probability that Platt's map gives it, so that none says 0 or 1.
    """
    order = np.argsort(z, kind="stable")
    blocks: list[tuple[float, float, float]] = []  # rows, mean logit, mean label
    for part in np.array_split(order, min(len(order), 4 * MAX_KNOTS)):
        count, centre = float(len(part)), float(z[part].mean())
        share = (float(y[part].sum()) + float(sigmoid(z[part]).mean())) / (count + 1)
        blocks.append((count, centre, share))
        while len(blocks) > 1 and blocks[-2][2] >= blocks[-1][2]:
            (n, a, p), (m, b, q) = blocks[-2], blocks[-1]
            blocks[-2:] = [(n + m, (n * a + m * b) / (n + m), (n * p + m * q) / (n + m))]
    kept = blocks[:: -(-len(blocks) // MAX_KNOTS)]
    at = [round(centre, 6) for _, centre, _ in kept]
    to = [round(float(v), 6) for v in logit(np.array([share for _, _, share in kept]))]
    rising = [n for n in range(len(at)) if n == 0 or at[n] > at[n - 1]]
    return Curve(tuple(at[n] for n in rising), tuple(to[n] for n in rising))
