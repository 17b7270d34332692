"""What is said of a calibration is measured on rows that it was not fitted on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from guardrail.classifier.calibration import sigmoid
from guardrail.errors import DataError
from guardrail.evaluate.calibrating import calibrate, changes_table, folds_of
from guardrail.evaluate.report import Table
from guardrail.evaluate.terminal import diagram


def table(n: int, slope: float = 1.0, offset: float = 0.0, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, n)
    y = (rng.random(n) < sigmoid(slope * z + offset)).astype(float)
    values = np.stack([sigmoid(z), np.full(n, 0.5)], axis=1)
    labels = np.stack([y, np.full(n, np.nan)], axis=1)
    roles = tuple("user" if i % 2 else "text" for i in range(n))
    lengths = tuple(40 if i % 3 else 400 for i in range(n))
    return Table(("unsafe", "hate"), values, labels, roles, ("s",) * n, lengths, ("en",) * n)


def dealt(n: int) -> np.ndarray:
    return np.arange(n) % 5


def test_a_classifier_that_is_off_gains_and_the_interval_says_so() -> None:
    found = calibrate(table(600, 0.5, -2.0), dealt(600), "m@1", rounds=50)
    overall = found.changes[0]
    assert (overall.slice, overall.method, overall.rows) == ("overall", "platt", 600)
    assert overall.shown
    assert overall.after["ece"].value < overall.before["ece"].value
    assert overall.change["log_loss"].low < overall.change["log_loss"].value < 0
    assert {c.slice for c in found.changes} >= {"role:user", "length:320–1279"}


def test_a_classifier_that_is_right_is_not_said_to_gain() -> None:
    shown = [calibrate(table(200, seed=s), dealt(200), "m@1", rounds=50) for s in range(5)]
    assert sum(one.changes[0].shown for one in shown) <= 1


def test_noise_that_is_learnt_by_heart_counts_as_loss() -> None:
    data = table(40, seed=3)
    rng = np.random.default_rng(1)
    data.labels[:, 0] = rng.permutation(data.labels[:, 0])
    data.probabilities[:, 0] = 0.5 + 0.001 * rng.normal(size=40)
    found = calibrate(data, dealt(40), "m@1", method="isotonic", rounds=20)
    assert found.changes[0].change["log_loss"].value > 0


def test_scores_for_targets_are_of_fits_that_had_not_seen_them() -> None:
    found = calibrate(table(300, 0.5, -2.0), dealt(300), "m@1", rounds=0)
    kept = found.recalibration.scores["unsafe"]
    every = np.sort(np.concatenate([kept.positive, kept.negative]))
    assert every == pytest.approx(np.sort(found.after[:, 0]))
    assert set(found.recalibration.outputs) == {"unsafe"}


def test_labels_of_one_class_are_refused() -> None:
    data = table(50)
    data.labels[:, 0] = 0.0
    with pytest.raises(DataError, match="rows that violate and rows that do not"):
        calibrate(data, dealt(50), "m@1")


def test_equal_texts_share_a_fold_and_classes_are_dealt_evenly() -> None:
    texts = [f"text {n}" for n in range(100)] + ["Text  0!"]
    labels = [n % 2 for n in range(100)] + [0]
    folds = folds_of(texts, labels, 5)
    assert folds[0] == folds[100]
    assert set(np.bincount(folds[:100])) == {20}
    positives = folds[:100][np.array(labels[:100]) == 1]
    assert set(np.bincount(positives)) <= {9, 10, 11}
    assert (folds == folds_of(texts, labels, 5)).all()


def test_reports_are_plain() -> None:
    found = calibrate(table(300, 0.5, -2.0), dealt(300), "m@1", rounds=20)
    text = changes_table(found.changes)
    assert text.count("\n") == len(found.changes) + 2
    assert "| overall | 300 |" in text
    assert " * |" not in text.split("\n")[0]
    json.dumps(found.recalibration.report, allow_nan=False)


def test_the_diagram_marks_what_was_said_and_what_was_seen() -> None:
    labels = np.array([1.0] * 8 + [0.0] * 2)
    drawn = diagram(labels, np.full(10, 0.25), "unsafe").split("\n")
    assert drawn[0] == "unsafe"
    line = next(row for row in drawn if row.lstrip().startswith("0.2–0.3"))
    assert line.index("|") < line.index("o")
    assert line.split()[-2:] == ["0.25", "0.80"]
    assert len(drawn) == 13
