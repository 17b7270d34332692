"""An own calibration keeps ranks, survives its file, and is refused for any other model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.classifier.calibration import Platt
from guardrail.classifier.recalibration import (
    LENGTH_EDGES,
    MAX_BYTES,
    Curve,
    OutputMap,
    Recalibration,
    length_bucket,
    logit,
)
from guardrail.classifier.targets import Scored
from guardrail.errors import BundleError

ROLES = {"user": Platt(0.5, -1.0), "assistant": Platt(2.0, 0.0), "text": Platt()}
MAP = OutputMap("isotonic", ROLES, (Platt(), Platt(), Platt(), Platt(1, 3)), Curve((-1, 1), (0, 4)))
OWN = Recalibration(
    "model@1", {"unsafe": MAP}, {"unsafe": Scored(np.array([0.9]), np.array([0.1, 0.2]), "")}
)


def test_lengths_fall_into_buckets() -> None:
    edges = [0, LENGTH_EDGES[0] - 1, LENGTH_EDGES[0], LENGTH_EDGES[-1]]
    assert [length_bucket(n) for n in edges] == [0, 0, 1, 3]


def test_a_curve_goes_on_at_slope_one_beyond_its_knots() -> None:
    curve = Curve((-1.0, 1.0), (0.0, 4.0))
    assert curve.apply(np.array([-3.0, -1, 0, 1, 2])) == pytest.approx([-2, 0, 2, 4, 5])
    assert Curve().apply(np.array([0.3])) == pytest.approx([0.3])


@given(
    st.lists(st.floats(0.001, 0.999), min_size=2, max_size=20), st.sampled_from([*ROLES, "tool"])
)
def test_a_higher_probability_never_becomes_a_lower_one(chances: list[float], role: str) -> None:
    mapped = [MAP.apply(p, role, 100) for p in sorted(chances)]
    assert mapped == sorted(mapped)


def test_role_and_length_choose_the_map() -> None:
    assert logit(MAP.apply(0.5, "assistant", 10)) == pytest.approx(2.0, abs=1e-6)
    assert MAP.apply(0.5, "assistant", 5000) > MAP.apply(0.5, "assistant", 10)
    assert MAP.apply(0.5, "user", 10) < MAP.apply(0.5, "assistant", 10)


def test_what_a_rule_settled_stays_settled() -> None:
    assert (MAP.apply(1.0, "user", 9), MAP.apply(0.0, "user", 9)) == (1.0, 0.0)


def test_outputs_without_a_map_stay_as_they_are() -> None:
    assert OWN.apply({"hate": 0.3, "unsafe": 0.5}, "user", 10)["hate"] == 0.3


def test_it_survives_its_file(tmp_path) -> None:
    saved = OWN.save(tmp_path / "own.json")
    found = Recalibration.load(tmp_path / "own.json")
    assert found.outputs == OWN.outputs
    assert (found.model, found.digest) == ("model@1", saved.digest)
    assert list(found.scores["unsafe"].negative) == [0.1, 0.2]


def test_another_model_is_refused_by_name() -> None:
    OWN.require("model@1", "own.json")
    with pytest.raises(BundleError, match=r"own\.json: fitted on model model@1, and this is x@2"):
        OWN.require("x@2", "own.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "other"}, "kind 'other'"),
        ({"format": 9}, "format 9"),
        ({"length_edges_chars": [1]}, "length buckets"),
        ({"model": 3}, "model"),
        ({"outputs": {"unsafe": {}}}, "curve"),
        ({"scores": {"unsafe": {"positive": [2], "negative": []}}}, "probabilities"),
        ({"scores": {"unsafe": {"positive": [10**400], "negative": []}}}, "too large"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path, change, words) -> None:
    file = tmp_path / "own.json"
    OWN.save(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BundleError, match=rf"own\.json: not a calibration .*{words}.*calibrate`"):
        Recalibration.load(file)


@pytest.mark.parametrize(
    "broken",
    [
        {"curve": [[1, 0], [0, 1]]},
        {"curve": [[0, 1], [1, 0]]},
        {"curve": [[float(n) for n in range(65)], [float(n) for n in range(65)]]},
        {"lengths": []},
        {"roles": {"user": [1, 0]}},
        {"roles": {g: [-1, 0] for g in ROLES}},
        {"roles": {g: [1, 1e9] for g in ROLES}},
    ],
)
def test_numbers_that_would_turn_verdicts_around_are_refused(tmp_path, broken) -> None:
    file = tmp_path / "own.json"
    OWN.save(file)
    raw = json.loads(file.read_text())
    raw["outputs"]["unsafe"] |= broken
    file.write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="not a calibration"):
        Recalibration.load(file)


def test_missing_large_and_unwritable_files_are_named(tmp_path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        Recalibration.load(tmp_path / "none.json")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(BundleError, match="larger than"):
        Recalibration.load(tmp_path / "large.json")
    with pytest.raises(BundleError, match="writable --out"):
        OWN.save(tmp_path / "no" / "own.json")
