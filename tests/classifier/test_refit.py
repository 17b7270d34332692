"""Fitting an own calibration: as rich as the labels allow, shrunk where they are few."""

from __future__ import annotations

import numpy as np
import pytest

from guardrail.classifier.calibration import sigmoid
from guardrail.classifier.recalibration import OutputMap, logit
from guardrail.classifier.refit import Labels, fit_map, method_for, predict
from guardrail.evaluate.metrics import ece, log_loss


def drawn(n: int, seed: int = 0, slope: float = 0.5, offset: float = -1.5) -> Labels:
    """Texts whose true logit is ``slope * z + offset`` of the classifier's."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, n)
    y = (rng.random(n) < sigmoid(slope * z + offset)).astype(float)
    roles = [("user", "assistant", "tool")[i % 3] for i in range(n)]
    return Labels.of(sigmoid(z), y, roles, [50 + 20 * (i % 100) for i in range(n)])


def balanced(positive: int, negative: int) -> Labels:
    y = np.array([1.0] * positive + [0.0] * negative)
    return Labels.of(np.full(len(y), 0.5), y, ["user"] * len(y), [10] * len(y))


@pytest.mark.parametrize(
    ("positive", "negative", "method"),
    [
        (0, 50, "none"), (1, 500, "none"), (2, 2, "temperature"), (3, 900, "temperature"),
        (4, 90, "platt"), (199, 9999, "platt"), (250, 250, "platt"), (250, 750, "isotonic"),
    ],
)  # fmt: skip
def test_the_method_goes_by_the_amount_of_labels(positive, negative, method) -> None:
    assert method_for(balanced(positive, negative)) == method


def test_one_class_alone_changes_nothing() -> None:
    assert fit_map(balanced(0, 500), "platt") == OutputMap()


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_every_method_makes_new_texts_better_calibrated(method) -> None:
    slope, offset = (0.4, 0.0) if method == "temperature" else (0.5, -1.5)
    fitted = fit_map(drawn(3000, 0, slope, offset), method)
    fresh = drawn(3000, 1, slope, offset)
    before, after = sigmoid(fresh.logits), predict(fitted, fresh)
    assert log_loss(fresh.labels, after) < log_loss(fresh.labels, before) - 0.02
    assert ece(fresh.labels, after) < 0.05


def test_temperature_moves_no_verdict_at_one_half() -> None:
    fitted = fit_map(drawn(300), "temperature")
    assert fitted.apply(0.5, "user", 10) == pytest.approx(0.5)


def test_isotonic_bends_where_two_numbers_cannot() -> None:
    rng = np.random.default_rng(0)
    z = rng.uniform(-4, 4, 6000)
    truth = np.where(z < 0, 0.05, 0.6)
    y = (rng.random(6000) < truth).astype(float)
    labels = Labels.of(sigmoid(z), y, ["user"] * 6000, [10] * 6000)
    straight, bent = (
        log_loss(y, predict(fit_map(labels, m), labels)) for m in ("platt", "isotonic")
    )
    assert bent < straight - 0.01


def test_isotonic_keeps_ranks_and_says_neither_0_nor_1() -> None:
    labels = drawn(2000)
    fitted = fit_map(labels, "isotonic")
    p = np.array([fitted.apply(x, "user", 10) for x in np.linspace(0.001, 0.999, 200)])
    assert (np.diff(p) > 0).all()
    assert p.min() > 0
    assert p.max() < 1


def test_few_labels_of_a_role_follow_all_roles() -> None:
    labels = drawn(600)
    few = Labels(
        labels.logits, labels.labels,
        np.where(np.arange(600) < 6, "assistant", "user"), labels.buckets,
    )  # fmt: skip
    fitted = fit_map(few, "platt")
    assert fitted.roles["text"] == fitted.roles["assistant"]
    assert fitted.roles["user"] != fitted.roles["text"]


def test_no_labels_to_speak_of_leave_the_shipped_calibration() -> None:
    fitted = fit_map(drawn(12, 5), "platt")
    assert abs(fitted.roles["user"].slope - 1) < 0.6
    assert logit(fitted.apply(0.5, "user", 10)) > -2.5


def test_prediction_agrees_with_one_text_at_a_time() -> None:
    labels = drawn(400)
    fitted = fit_map(labels, "isotonic")
    each = [
        fitted.apply(float(sigmoid(z)), str(g), (10, 100, 500, 5000)[b])
        for z, g, b in zip(labels.logits, labels.groups, labels.buckets, strict=True)
    ]
    assert predict(fitted, labels) == pytest.approx(each, abs=1e-6)
