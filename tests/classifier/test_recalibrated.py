"""A recalibrated classifier is the same one with other probabilities, and says so."""

from __future__ import annotations

import pytest

from guardrail.classifier.base import Classifier, Sample
from guardrail.classifier.bundle import Bundle
from guardrail.classifier.calibration import GROUPS, Platt
from guardrail.classifier.compose import for_policy
from guardrail.classifier.recalibrated import RecalibratedEncoder, check_fit, recalibrate
from guardrail.classifier.recalibration import OutputMap, Recalibration
from guardrail.errors import BundleError
from guardrail.policy import parse_policy

LOWER = OutputMap("platt", dict.fromkeys(GROUPS, Platt(1.0, -2.0)))


def kept(tmp_path, model: str):
    path = tmp_path / "own.json"
    Recalibration(model, {"unsafe": LOWER}).save(path)
    return path


def test_no_file_leaves_the_classifier(marker) -> None:
    assert recalibrate(marker, None) is marker


def test_probabilities_are_mapped_and_the_identity_tells(tmp_path, marker) -> None:
    own = recalibrate(marker, kept(tmp_path, marker.model_id))
    assert isinstance(own, Classifier)
    [found] = own.score([Sample("MEH")])
    assert found.categories["unsafe"] == pytest.approx(0.240, abs=1e-3)
    assert found.categories["hate"] == 0.7
    assert found.model == own.model_id
    assert own.model_id.startswith("marker@0+calibration@")
    assert own.categories == marker.categories


def test_the_calibration_of_another_model_is_refused(tmp_path, marker, embedded) -> None:
    path = kept(tmp_path, "other@1")
    for model in (marker, embedded):
        with pytest.raises(BundleError, match="fitted on model other@1, and this is"):
            recalibrate(model, path)
    with pytest.raises(BundleError, match="fitted on model other@1"):
        check_fit(path, None)
    check_fit(None, None)
    check_fit(kept(tmp_path, Bundle.open().model_id), None)


def test_the_embedded_model_keeps_what_it_can_do(tmp_path, embedded) -> None:
    own = recalibrate(embedded, kept(tmp_path, embedded.model_id))
    assert isinstance(own, RecalibratedEncoder)
    sample = Sample("how do I murder someone")
    plain, mapped = embedded.score([sample])[0], own.score([sample])[0]
    assert mapped.categories["unsafe"] < plain.categories["unsafe"]
    assert mapped.coverage == plain.coverage
    assert own.score_and_embed([sample])[0][0].categories == pytest.approx(mapped.categories)
    assert own.bundle is embedded.bundle


def test_a_policy_with_a_rubric_takes_a_recalibrated_model(tmp_path, embedded) -> None:
    own = recalibrate(embedded, kept(tmp_path, embedded.model_id))
    policy = parse_policy(
        "version: 1\nname: t\nnormalise: false\ncategories:\n"
        "  unsafe: {flag: 0.5}\n  cats: {rubric: Talk about cats., flag: 0.5}\n"
    )
    scores = for_policy(policy, own).score([Sample("My cat sleeps all day.")])[0]
    assert set(scores.categories) >= {"unsafe", "cats"}
    assert "+calibration@" in scores.model
