"""The gate between fp32 and int8: what quantisation cost on each slice of the dev set."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.bundle import MODEL, Bundle, seal
from guardrail.classifier.calibration import Calibration, fit_calibration
from guardrail.classifier.encoder import EncoderClassifier
from guardrail.evaluate.report import Table, compare
from guardrail.train.build import CERTAIN, LIFT, as_samples, score_logits
from guardrail.train.rows import Example

__all__ = ["MOST_LOSS", "cross_fitted", "dev_table", "quantisation_cost"]

MOST_LOSS = 0.005
"""Most AUPRC that int8 may lose on a slice with `LEAST_POSITIVES`."""
LEAST_POSITIVES = 30

_log = logging.getLogger(__name__)


def dev_table(
    dev: Sequence[Example], probabilities: NDArray[np.float64], outputs: Sequence[str]
) -> Table:
    """Return probabilities beside the certain labels of development examples."""
    labels = np.stack([e.targets for e in dev]).astype(np.float64)
    labels[np.stack([e.weights for e in dev]) < CERTAIN] = np.nan
    sources = tuple(e.group.split("/")[0].split(".")[0] for e in dev)
    return Table(tuple(outputs), probabilities, labels, tuple(e.role for e in dev), sources)


def _applied(
    calibration: Calibration, logits: NDArray[np.float32], roles: NDArray[Any]
) -> NDArray[np.float64]:
    probabilities = np.zeros(logits.shape)
    for role in set(roles):
        here = roles == role
        probabilities[here] = calibration.apply(logits[here], str(role))
    return probabilities


def cross_fitted(
    dev: Sequence[Example],
    logits: NDArray[np.float32],
    outputs: Sequence[str],
    lift: float = LIFT,
) -> Table:
    """Calibrate each half of the dev set by the other, so that its measures do not flatter.

    Args:
        dev: Development examples.
        logits: float32 (dev, outputs).
        outputs: Names of the outputs.
        lift: See `Calibration`.
    """
    roles = np.array([e.role for e in dev])
    targets = np.stack([e.targets for e in dev])
    weights = np.stack([e.weights >= CERTAIN for e in dev]).astype(np.float32)
    half = np.random.default_rng(0).permutation(len(dev)) % 2
    probabilities = np.zeros(logits.shape)
    for fold in (0, 1):
        fit, use = half == fold, half != fold
        found = fit_calibration(
            outputs, logits[fit], targets[fit], weights[fit], list(roles[fit]), lift=lift
        )
        probabilities[use] = _applied(found, logits[use], roles[use])
    return dev_table(dev, probabilities, outputs)


def quantisation_cost(
    bundle: Bundle,
    plain: Path,
    work: Path,
    dev: Sequence[Example],
    logits: NDArray[np.float32],
    on_done: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Compare the int8 graph with its fp32 origin, slice by slice.

    Args:
        bundle: The calibrated int8 bundle.
        plain: The fp32 graph.
        work: Where an fp32 twin of the bundle may be put.
        dev: Development examples.
        logits: float32 (dev, outputs), of the int8 graph.
        on_done: Called with the number of examples scored.

    Returns:
        For each slice: ``auprc_a`` of fp32, ``auprc_b`` of int8, ``difference``, ``flipped``.
    """
    twin = work / "fp32"
    twin.mkdir(parents=True, exist_ok=True)
    for name in bundle.manifest["files"]:
        shutil.copyfile(bundle.folder / name, twin / name)
    shutil.copyfile(plain, twin / MODEL)
    seal(twin, {k: v for k, v in bundle.manifest.items() if k not in ("format", "files")})
    classifier = EncoderClassifier(Bundle.open(twin))
    roles = np.array([e.role for e in dev])
    before = _applied(bundle.calibration, score_logits(classifier, as_samples(dev), on_done), roles)
    after = _applied(bundle.calibration, logits, roles)
    found = compare(dev_table(dev, before, bundle.outputs), after)
    for one in found:
        if one["positives"] >= LEAST_POSITIVES and one["difference"] < -MOST_LOSS:
            _log.warning("int8 loses %.4f AUPRC on %s", -one["difference"], one["slice"])
    return found
