"""Thresholds that are given as targets, resolved with a finite-sample guarantee.

``fpr`` and ``recall`` change one way only with the threshold, so a bound that holds at one
threshold at a time is enough (risk-controlling prediction sets, Bates et al. 2021). Precision
does not: it is tested on a fixed grid, and the error is shared among its points (Learn then
Test with Bonferroni's correction, Angelopoulos et al. 2021). Every bound is Clopper-Pearson's.
What is guaranteed is guaranteed for texts that come as the calibration data came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.bounds import lower, needed, upper
from guardrail.errors import BundleError
from guardrail.policy import Measure, Target

__all__ = [
    "CALIBRATION_SCORES",
    "Resolved",
    "Scored",
    "Unsupported",
    "read_scores",
    "resolve",
    "write_scores",
]

Floats = NDArray[np.float64]

CALIBRATION_SCORES: Final = "calibration_scores.npz"
"""File of a bundle: probabilities and labels of texts that the model was not fitted on."""
GRID: Final = (*(n / 20 for n in range(1, 20)), 0.97, 0.98, 0.99, 0.995, 0.999)
"""Thresholds at which precision is tested."""


class Unsupported(ValueError):  # noqa: N818  (a refusal, turned into a PolicyError)
    """A target that the data cannot support; the message says what would."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Labelled probabilities of one category.

    Args:
        positive: float64 (n,), probabilities of texts that violate it.
        negative: float64 (m,), those of texts that do not.
        source: Where they come from, in words.
    """

    positive: Floats
    negative: Floats
    source: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """A target with the threshold that meets it.

    Args:
        category: Category key.
        level: ``flag`` or ``block``.
        target: What was asked for.
        threshold: The probability that meets it.
        bound: What is guaranteed at the target's confidence.
        estimate: What was observed.
        positives: Violating texts that it rests on.
        negatives: Other texts that it rests on.
        source: Where the texts come from.
    """

    category: str
    level: str
    target: Target
    threshold: float
    bound: float
    estimate: float
    positives: int
    negatives: int
    source: str


def resolve(category: str, level: str, target: Target, scored: Scored) -> Resolved:
    """Find the lowest threshold (for recall the highest) that meets a target.

    Args:
        category: Category key.
        level: ``flag`` or ``block``.
        target: What to achieve.
        scored: Labelled probabilities.

    Returns:
        The threshold and what is guaranteed of it.

    Raises:
        Unsupported: The data cannot support the target.
    """
    threshold, bound, estimate = _METHODS[target.measure](target, scored)
    return Resolved(
        category, level, target, threshold, bound, estimate,
        len(scored.positive), len(scored.negative), scored.source,
    )  # fmt: skip


def _fpr(target: Target, scored: Scored) -> tuple[float, float, float]:
    falling = np.sort(scored.negative)[::-1]
    n = len(falling)
    if n == 0 or upper(0, n, target.confidence) > target.value:
        least = needed(target.value, target.confidence)
        raise Unsupported(
            f"{target} needs at least {least:,} texts that do not violate; {n:,} are there"
        )
    allowed = _most(n, lambda k: upper(k, n, target.confidence) <= target.value)
    # Just above the first negative that may no longer cross it.
    threshold = float(np.nextafter(falling[allowed], 2.0)) if allowed < n else 0.0
    if threshold > 1.0:
        raise Unsupported(f"{target}: too many texts that do not violate have probability 1")
    crossed = int((falling >= threshold).sum())
    return threshold, upper(crossed, n, target.confidence), crossed / n


def _recall(target: Target, scored: Scored) -> tuple[float, float, float]:
    falling = np.sort(scored.positive)[::-1]
    n = len(falling)
    if n == 0 or lower(n, n, target.confidence) < target.value:
        least = needed(1 - target.value, target.confidence)
        raise Unsupported(f"{target} needs at least {least:,} texts that violate; {n:,} are there")
    missed = _most(n, lambda k: lower(n - k, n, target.confidence) >= target.value)
    threshold = float(falling[n - missed - 1])
    caught = int((falling >= threshold).sum())
    return threshold, lower(caught, n, target.confidence), caught / n


def _precision(target: Target, scored: Scored) -> tuple[float, float, float]:
    each = 1 - (1 - target.confidence) / len(GRID)
    best = 0.0
    for threshold in GRID:
        true = int((scored.positive >= threshold).sum())
        crossed = true + int((scored.negative >= threshold).sum())
        bound = lower(true, crossed, each)
        if crossed and bound >= target.value:
            return threshold, bound, true / crossed
        best = max(best, bound)
    least = needed(1 - target.value, each)
    raise Unsupported(
        f"{target}: the most that {len(scored.positive):,} violating and "
        f"{len(scored.negative):,} other texts can show is {best:.3f}; it takes at least "
        f"{least:,} texts above a threshold, all of them violating"
    )


def _most(n: int, holds: Callable[[int], bool]) -> int:
    """Return the largest count in [0, n) for which a condition holds that holds at 0."""
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


_METHODS: Final[Mapping[Measure, Callable[[Target, Scored], tuple[float, float, float]]]] = {
    Measure.FPR: _fpr,
    Measure.RECALL: _recall,
    Measure.PRECISION: _precision,
}


def write_scores(
    path: Path, outputs: Sequence[str], probabilities: NDArray[Any], labels: NDArray[Any]
) -> None:
    """Write a bundle's `CALIBRATION_SCORES`.

    Args:
        path: The file.
        outputs: Names of the model's outputs.
        probabilities: float (n, outputs), calibrated.
        labels: int (n, outputs): 1 violates, 0 does not, -1 unknown.
    """
    steps = np.round(np.asarray(probabilities, dtype=np.float64) * 65_535).astype(np.uint16)
    np.savez_compressed(
        path, outputs=np.array(outputs), probabilities=steps, labels=labels.astype(np.int8)
    )


def read_scores(folder: Path) -> dict[str, Scored]:
    """Read the labelled probabilities that are kept with a model.

    Args:
        folder: The bundle's folder.

    Returns:
        Labelled probabilities by output.

    Raises:
        BundleError: The bundle has none, or they cannot be read.
    """
    path = folder / CALIBRATION_SCORES
    try:
        with np.load(path, allow_pickle=False) as data:
            outputs = [str(name) for name in data["outputs"]]
            chances = data["probabilities"].astype(np.float64) / 65_535
            labels = data["labels"]
    except FileNotFoundError as error:
        raise BundleError(
            f"{path}: the model comes without calibration scores, so a target cannot be "
            "resolved against them; give the policy 'calibration:' with labels of your own, or "
            "a probability in place of the target"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); fetch the bundle anew") from error
    if not chances.shape == labels.shape == (len(chances), len(outputs)):
        raise BundleError(f"{path}: its arrays do not fit one another; fetch the bundle anew")
    source = "the model's calibration data"
    return {
        name: Scored(chances[labels[:, k] == 1, k], chances[labels[:, k] == 0, k], source)
        for k, name in enumerate(outputs)
    }
