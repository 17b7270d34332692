"""Calibration: probabilities that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.classifier.calibration import (
    GROUPS,
    Calibration,
    Platt,
    fit_calibration,
    fit_platt,
    group_of,
    sigmoid,
)
from guardrail.errors import BundleError


def drawn(slope: float, offset: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    z = rng.normal(0, 2, n)
    y = (rng.random(n) < sigmoid(slope * z + offset)).astype(float)
    return z, y


def test_sigmoid_stays_in_bounds_for_any_number() -> None:
    p = sigmoid(np.array([-1e9, -1.0, 0.0, 1.0, 1e9]))
    assert p[2] == 0.5
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p) > 0).all()


def test_fit_recovers_the_slope_and_offset_that_drew_the_labels() -> None:
    fitted = fit_platt(*drawn(0.5, -1.0))
    assert fitted.slope == pytest.approx(0.5, abs=0.06)
    assert fitted.offset == pytest.approx(-1.0, abs=0.12)


def test_fit_shrinks_to_its_prior_where_rows_are_few() -> None:
    z, y = drawn(0.5, -1.0, 6)
    prior = Platt(2.0, 0.7)
    fitted = fit_platt(z, y, prior=prior, strength=1e6)
    assert (fitted.slope, fitted.offset) == pytest.approx((2.0, 0.7), abs=1e-3)


def test_weights_count_like_repeated_rows() -> None:
    z, y = drawn(1.0, 0.0, 50)
    twice = fit_platt(np.concatenate([z, z]), np.concatenate([y, y]))
    weighted = fit_platt(z, y, np.full(50, 2.0))
    assert twice.slope == pytest.approx(weighted.slope, abs=1e-6)


def test_slope_stays_positive_even_where_labels_run_the_other_way() -> None:
    z, y = drawn(1.0, 0.0)
    assert fit_platt(z, 1 - y).slope > 0


@given(st.floats(0.05, 5), st.floats(-5, 5), st.lists(st.floats(-20, 20), min_size=2, max_size=20))
def test_a_higher_logit_never_means_a_lower_probability(
    slope: float, offset: float, logits: list[float]
) -> None:
    p = Platt(slope, offset).apply(np.sort(np.array(logits)))
    assert (np.diff(p) >= 0).all()


def test_roles_without_a_group_of_their_own_count_as_text() -> None:
    assert [group_of(r) for r in ("user", "assistant", "tool", "system", "text")] == [
        "user",
        "assistant",
        "text",
        "text",
        "text",
    ]


def test_each_role_gets_its_own_pair_and_unknown_labels_do_not_count() -> None:
    z, y = drawn(1.0, 0.0)
    logits = np.stack([z, z], axis=1)
    targets = np.stack([y, np.ones_like(y)], axis=1)
    weights = np.stack([np.ones_like(y), np.zeros_like(y)], axis=1)
    roles = ["user" if n % 2 else "assistant" for n in range(len(z))]
    flipped = targets.copy()
    flipped[::2, 0] = 1 - flipped[::2, 0]
    fitted = fit_calibration(("unsafe", "hate"), logits, flipped, weights, roles, strength=0.1)
    assert fitted.tables["user"][0].slope > 0.8 > fitted.tables["assistant"][0].slope
    assert fitted.tables["user"][1] == Platt()


def test_json_round_trip_keeps_every_number() -> None:
    table = {g: (Platt(0.5, n / 10), Platt(1.5, -n)) for n, g in enumerate(GROUPS)}
    before = Calibration(("unsafe", "hate"), table)
    after = Calibration.from_json(before.as_json(), ("unsafe", "hate"), "x.json")
    assert after == before


def test_json_is_bound_by_name_not_by_order() -> None:
    table = {g: (Platt(0.5), Platt(1.5)) for g in GROUPS}
    raw = Calibration(("unsafe", "hate"), table).as_json()
    swapped = Calibration.from_json(raw, ("hate", "unsafe"), "x.json")
    assert [p.slope for p in swapped.tables["user"]] == [1.5, 0.5]


@pytest.mark.parametrize("raw", [{}, [], {"format": 9}, {"format": 1, "groups": {"user": {}}}])
def test_a_broken_file_is_refused_by_name(raw: object) -> None:
    with pytest.raises(BundleError, match=r"x\.json"):
        Calibration.from_json(raw, ("unsafe",), "x.json")


def test_a_category_of_harm_lifts_the_overall_output_and_an_attack_does_not() -> None:
    outputs = ("unsafe", "self_harm", "jailbreak")
    table = {g: (Platt(),) * 3 for g in GROUPS}
    plain, lifted = Calibration(outputs, table), Calibration(outputs, table, 0.5)
    logits = np.array([[-1.0, 4.0, -3.0], [-1.0, -2.0, 9.0]])
    before, after = plain.apply(logits, "user"), lifted.apply(logits, "user")
    assert after[0, 0] == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert after[1, 0] < before[1, 0]
    assert (after[:, 1:] == before[:, 1:]).all()
    assert logits[0, 0] == -1.0


def test_a_fit_and_its_use_lift_alike() -> None:
    z, y = drawn(1.0, 0.0)
    logits = np.stack([z - 1.0, 2.0 * np.ones_like(z)], axis=1)
    ones, roles = np.ones_like(logits), ["user"] * len(z)
    fitted = fit_calibration(("unsafe", "hate"), logits, ones * y[:, None], ones, roles, lift=0.5)
    assert fitted.apply(logits, "user")[:, 0].mean() == pytest.approx(y.mean(), abs=0.02)
    raw = fitted.as_json()
    again = Calibration.from_json(raw, ("unsafe", "hate"), "x.json")
    assert again.apply(logits, "user") == pytest.approx(fitted.apply(logits, "user"), abs=1e-5)


@pytest.mark.parametrize("lift", ["much", -1, float("nan"), None])
def test_a_lift_that_is_no_share_is_refused(lift: object) -> None:
    table = {g: (Platt(),) for g in GROUPS}
    raw = {**Calibration(("unsafe",), table).as_json(), "lift": lift}
    with pytest.raises(BundleError, match=r"x\.json"):
        Calibration.from_json(raw, ("unsafe",), "x.json")
