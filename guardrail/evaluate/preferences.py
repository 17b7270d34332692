"""What a judge's output files show: right how often, and sure how rightly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.bounds import interval
from guardrail.classifier.calibration import sigmoid
from guardrail.classifier.scaling import Method, Scaling, fit_scaling
from guardrail.errors import DataError
from guardrail.evaluate.metrics import brier, ece, roc_auc

__all__ = ["Labelled", "Preferences", "labelled", "preferences", "read_lines", "words"]

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Preferences:
    """How a judge does on preference pairs.

    Args:
        pairs: How many.
        right: Share where the preferred reply scored higher; a tie counts half.
        low: Lower end of its exact 95 % interval.
        high: Upper end.
        ties: Pairs with equal scores.
        ece: Calibration error of the margin as it is: of ``sigmoid(|margin|)`` against being
            right.
        ece_fitted: The same once a temperature was fitted on other folds of the pairs.
        temperature: The slope that all pairs give.
    """

    pairs: int
    right: float
    low: float
    high: float
    ties: int
    ece: float
    ece_fitted: float
    temperature: float

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Labelled:
    """How a judge does on labelled exchanges, by one rubric.

    Args:
        rows: How many have a label.
        positives: How many match.
        auroc: Area under the ROC curve.
        ece: Calibration error of the probabilities as they are.
        brier: Brier score of the probabilities as they are.
        method: What is fitted on this much data.
        ece_fitted: Calibration error once it was fitted on other folds.
        brier_fitted: Brier score once it was fitted on other folds.
    """

    rows: int
    positives: int
    auroc: float
    ece: float
    brier: float
    method: Method
    ece_fitted: float
    brier_fitted: float

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def read_lines(path: Path, field: str) -> list[dict[str, Any]]:
    """Read an output file of a judge.

    Args:
        path: The file.
        field: What each line must have: ``rubrics`` of texts, ``margin`` of pairs.

    Raises:
        DataError: It cannot be read, or is of another kind.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}; name an output of guardrail judge") from error
    if not all(isinstance(line, dict) and field in line for line in lines):
        raise DataError(
            f"{path}: a line has no '{field}': it is of another kind of data; "
            "pass --restart to overwrite it or name another --out"
        )
    return lines


def preferences(lines: list[dict[str, Any]]) -> Preferences:
    """Measure a judge on pairs.

    Args:
        lines: Output lines of `pairs_file`, at least one.

    Returns:
        The measures.
    """
    margins = np.array([line["margin"] for line in lines], dtype=np.float64)
    n, ties = len(margins), int((margins == 0).sum())
    right = float((margins > 0).sum() + ties / 2)
    low, high = interval(round(right), n)
    # Which reply comes first means nothing: each pair counts once either way round.
    z = np.concatenate([margins, -margins])
    y = np.concatenate([np.ones(n), np.zeros(n)])
    slope = fit_scaling(z, y, Method.TEMPERATURE).slope
    crossed = np.empty(n)
    for held in _folds(n):
        own = np.concatenate([held, held])
        fit = fit_scaling(z[~own], y[~own], Method.TEMPERATURE)
        crossed[held] = fit.slope * margins[held]
    return Preferences(
        n, right / n, low, high, ties, _sure(margins, margins), _sure(crossed, margins), slope
    )


def _sure(scaled: NDArray[np.float64], margins: NDArray[np.float64]) -> float:
    at = margins != 0
    return ece((margins[at] > 0).astype(float), sigmoid(np.abs(scaled[at])))


def _folds(n: int) -> list[NDArray[np.bool_]]:
    """Return masks of the held-out rows; with few rows each is a fold."""
    turn = np.arange(n) % max(min(FOLDS, n), 1)
    shuffled = np.random.default_rng(0).permutation(turn)
    return [shuffled == k for k in range(int(turn.max()) + 1)] if n else []


def labelled(lines: list[dict[str, Any]], rubric: str) -> tuple[Labelled, Scaling] | None:
    """Measure a judge on labelled exchanges, and fit its calibration.

    Args:
        lines: Output lines of `judge_file`.
        rubric: Key of the rubric that the labels are about.

    Returns:
        The measures, and the calibration fitted on all rows; None where no row has a label.
    """
    rows = [line for line in lines if line.get("label") is not None and rubric in line["rubrics"]]
    if not rows:
        return None
    y = np.array([row["label"] for row in rows], dtype=np.float64)
    z = np.array([row["rubrics"][rubric]["logit"] for row in rows])
    p = np.array([row["rubrics"][rubric]["probability"] for row in rows])
    whole = fit_scaling(z, y)
    crossed = np.empty(len(y))
    for held in _folds(len(y)):
        crossed[held] = fit_scaling(z[~held], y[~held], whole.method).apply(z[held])
    measured = Labelled(
        len(y),
        int(y.sum()),
        roc_auc(y, z),
        ece(y, p),
        brier(y, p),
        whole.method,
        ece(y, crossed),
        brier(y, crossed),
    )
    return measured, whole


def words(found: Preferences | Mapping[str, Labelled]) -> str:
    """Say measures in lines for people."""
    if isinstance(found, Preferences):
        return (
            f"right on {found.right:.3f} of {found.pairs:,} pairs "
            f"(95 % interval {found.low:.3f} to {found.high:.3f}; chance is 0.5), "
            f"{found.ties:,} ties\n"
            f"ECE of its confidence {found.ece:.3f}, with a temperature fitted on other folds "
            f"{found.ece_fitted:.3f} (slope {found.temperature:.3f})"
        )
    return "\n".join(
        f"{key}: {m.rows:,} labelled, {m.positives:,} match; AUROC {m.auroc:.3f}; "
        f"ECE {m.ece:.3f}, Brier {m.brier:.3f}; fitted on other folds ({m.method.value}) "
        f"{m.ece_fitted:.3f}, {m.brier_fitted:.3f}"
        for key, m in found.items()
    )
