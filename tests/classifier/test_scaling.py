"""The method grows with the data; each fit is what it should be, and survives JSON."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from guardrail.classifier.calibration import sigmoid
from guardrail.classifier.scaling import (
    EDGE,
    Method,
    Scaling,
    fit_scaling,
    isotonic,
    load_scalings,
    save_scalings,
)
from guardrail.errors import BundleError


def draw(n: int, slope: float, offset: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 3, n)
    return z, (rng.random(n) < sigmoid(slope * z + offset)).astype(float)


@pytest.mark.parametrize(
    ("rarer", "method"),
    [(0, "none"), (7, "none"), (8, "temperature"), (30, "platt"), (500, "isotonic")],
)
def test_the_method_follows_the_rows_of_the_rarer_label(rarer: int, method: str) -> None:
    labels = np.array([1.0] * rarer + [0.0] * 600)
    logits = np.random.default_rng(1).normal(size=len(labels))
    assert fit_scaling(logits, labels).method == method


def test_no_rows_are_no_error() -> None:
    assert fit_scaling(np.zeros(0), np.zeros(0)) == Scaling(Method.NONE)


def test_an_overconfident_model_gets_a_slope_below_one() -> None:
    fit = fit_scaling(*draw(5000, 0.4, 0.0), Method.TEMPERATURE)
    assert fit.slope == pytest.approx(0.4, abs=0.03)
    assert fit.apply(np.zeros(1)) == pytest.approx([0.5])


def test_a_shifted_model_is_shifted_back() -> None:
    fit = fit_scaling(*draw(5000, 0.5, -1.0), Method.PLATT)
    assert (fit.slope, fit.offset) == (pytest.approx(0.5, abs=0.05), pytest.approx(-1, abs=0.1))


def test_the_isotonic_curve_is_scikit_learns_at_every_pool() -> None:
    z, y = draw(800, 0.7, 0.3)
    z = np.round(z, 1)  # with ties
    knots, values = isotonic(z, y)
    reference = IsotonicRegression(y_min=EDGE, y_max=1 - EDGE, out_of_bounds="clip").fit(z, y)
    inside = [k for k in np.unique(z) if knots[0] <= k <= knots[-1]]
    steps = reference.predict(np.array(inside))
    at = np.searchsorted(knots, inside)
    low = np.array(values)[np.maximum(at - 1, 0)]
    high = np.array(values)[np.minimum(at, len(values) - 1)]
    assert np.all((steps >= low - 1e-6) & (steps <= high + 1e-6))


@pytest.mark.parametrize("method", list(Method))
def test_every_method_rises_stays_a_probability_and_survives_json(method: Method) -> None:
    fit = fit_scaling(*draw(1500, 0.6, 0.5), method)
    p = fit.apply(np.linspace(-30, 30, 200))
    assert np.all(np.diff(p) >= 0)
    assert p.min() >= 0
    assert p.max() <= 1
    assert np.allclose(
        Scaling.from_json(fit.as_json(), "x").apply(np.array([0.3])), fit.apply(np.array([0.3]))
    )


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"method": "magic"},
        {"method": "platt", "slope": -1, "offset": 0},
        {"method": "platt", "slope": "a", "offset": 0},
        {"method": "isotonic", "knots": [1, 0], "values": [0.1, 0.2]},
        {"method": "isotonic", "knots": [0, 1], "values": [0.3, 0.2]},
        {"method": "isotonic", "knots": [], "values": []},
        {"method": "isotonic", "knots": [0], "values": [7]},
        {"method": "platt", "slope": 10**400, "offset": 0},
    ],
)
def test_a_damaged_fit_is_refused_with_the_place(raw: dict[str, object]) -> None:
    with pytest.raises(BundleError, match=r"mine\.json: .*fit the calibration again"):
        Scaling.from_json(raw, "mine.json")


@pytest.mark.parametrize("text", ['{"format": 1, "model": "m", "rubrics": [1]}', "[" * 100_000])
def test_a_file_that_is_no_calibration_is_named(tmp_path, text: str) -> None:
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(BundleError, match=r"mine\.json: no calibration of a judge"):
        load_scalings(tmp_path / "mine.json", "m")


def test_a_place_that_cannot_be_written_is_named(tmp_path) -> None:
    with pytest.raises(BundleError, match="name a writable file"):
        save_scalings(tmp_path / "missing" / "mine.json", "m", {})
