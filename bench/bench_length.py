"""Would a calibration that knows lengths be worth it? Tried by cross-fitting, on one bundle.

For each trial, ``p = sigmoid(a z + b + further terms)`` is fitted to the overall output for each
group of roles, shrunk as `guardrail.classifier.calibration` does, and measured twice: on other
rows of the same sources (two folds, five draws), and on sources that the fit has not seen. With
``x = log2(characters / 100)`` and ``h`` the part of it beyond 400 characters.

    python bench/bench_length.py --data open.jsonl.gz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.bundle import Bundle
from guardrail.classifier.calibration import GROUPS, group_of, sigmoid
from guardrail.classifier.encoder import EncoderClassifier
from guardrail.evaluate import metrics
from guardrail.train.build import CERTAIN, as_samples, score_logits
from guardrail.train.corpus import read_corpus, read_wrappers
from guardrail.train.dev import dev_examples
from guardrail.train.rows import Example, read_rows

Floats = NDArray[np.float64]
STRENGTH = 8.0
LONG_CHARS = 800
DRAWS = 5
SHORTEST, LONGEST = 25, 3200


def overall(bundle: Bundle, logits: NDArray[np.float32]) -> Floats:
    """Return the overall logits as the bundle lifts them, before slope and offset."""
    table = bundle.calibration.tables["text"][0]
    p = bundle.calibration.apply(logits, "text")[:, 0]
    return np.asarray((np.log(p) - np.log1p(-p) - table.offset) / table.slope)


def trials(z: Floats, chars: Floats) -> dict[str, Floats]:
    """Return the columns of each trial, float64 (rows, terms); the first two are z and 1."""
    x = np.log2(np.clip(chars, SHORTEST, LONGEST) / 100)
    h = np.maximum(0.0, x - 2)
    plain = [z, np.ones_like(z)]
    terms = {
        "as it is": [],
        "temperature, beyond 400": [h * z],
        "offset, beyond 400": [h],
        "offset": [x],
        "offset and temperature": [x, x * z],
    }
    return {name: np.stack([*plain, *more], axis=1) for name, more in terms.items()}


def fit(columns: Floats, y: Floats, centre: Floats, strength: Floats) -> Floats:
    """Fit a logistic regression, shrunk to ``centre``, by damped Newton steps."""
    at = centre.copy()

    def cost(at: Floats) -> float:
        margin = columns @ at
        loss = np.logaddexp(0.0, margin) - y * margin
        return float(loss.sum() + (strength * (at - centre) ** 2).sum())

    for _ in range(50):
        p = sigmoid(columns @ at)
        gradient = columns.T @ (p - y) + 2 * strength * (at - centre)
        curvature = (columns * (p * (1 - p))[:, None]).T @ columns + 2 * np.diag(strength)
        step, scale = np.linalg.solve(curvature, gradient), 1.0
        while scale > 1e-4 and cost(at - scale * step) > cost(at):
            scale /= 2
        at = at - scale * step
        if np.abs(step).max() < 1e-8:
            break
    return at


def applied(
    columns: Floats, y: Floats, groups: NDArray[np.str_], folds: NDArray[np.int_]
) -> Floats:
    """Return the probabilities of each fold by a fit to the others."""
    chances, terms = np.zeros(len(y)), columns.shape[1]
    identity = np.eye(terms)[0]
    weak = np.array([1.0, 1.0] + [STRENGTH] * (terms - 2))
    for fold in np.unique(folds):
        there = folds != fold
        every = fit(columns[there], y[there], identity, weak)
        for group in GROUPS:
            own, use = there & (groups == group), ~there & (groups == group)
            found = fit(columns[own], y[own], every, np.full(terms, STRENGTH))
            chances[use] = sigmoid(columns[use] @ found)
    return chances


def measures(y: Floats, p: Floats, long: NDArray[np.bool_]) -> list[float]:
    """Return ECE, Brier score and AUPRC of all, then ECE and Brier score of the long ones."""
    whole = [metrics.ece(y, p), metrics.brier(y, p), metrics.average_precision(y, p)]
    return [*whole, metrics.ece(y[long], p[long]), metrics.brier(y[long], p[long])]


def report(dev: list[Example], z: Floats) -> None:
    """Print the table of all trials, and the ECE of a perfect calibration on the long rows."""
    y = np.array([float(e.targets[0] >= 0.5) for e in dev])
    chars = np.array([max(1, len(e.text)) for e in dev], dtype=np.float64)
    groups = np.array([group_of(e.role) for e in dev])
    sources = np.array([e.group.split("/")[0].split(".")[0] for e in dev])
    _, source = np.unique(sources, return_inverse=True)
    long, rng = chars >= LONG_CHARS, np.random.default_rng(0)
    halves = [np.random.default_rng(n).permutation(len(dev)) % 2 for n in range(DRAWS)]
    print("| trial | ECE | Brier | AUPRC | ECE, long | Brier, long | Brier, other sources |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    floor = 0.0
    for name, columns in trials(z, chars).items():
        drawn = [applied(columns, y, groups, half) for half in halves]
        found = np.mean([measures(y, p, long) for p in drawn], axis=0)
        elsewhere = metrics.brier(y, applied(columns, y, groups, source))
        print(f"| {name} | " + " | ".join(f"{v:.4f}" for v in [*found, elsewhere]) + " |")
        p = drawn[0][long]
        labels = [(rng.random(len(p)) < p).astype(float) for _ in range(200)]
        floor = floor or float(np.mean([metrics.ece(each, p) for each in labels]))
    print(f"\n{long.sum()} long rows; perfectly calibrated, their ECE would be {floor:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    options = parser.parse_args()
    bundle = Bundle.open(options.bundle) if options.bundle else Bundle.open()
    every = dev_examples(read_rows(options.data), read_corpus(), read_wrappers())
    dev = [e for e in every if e.weights[0] >= CERTAIN]
    logits = score_logits(EncoderClassifier(bundle), as_samples(dev))
    report(dev, overall(bundle, logits))


if __name__ == "__main__":
    main()
