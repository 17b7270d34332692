"""What targets promise: a guarantee that holds as often as it says, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest

from guardrail.classifier.bundle import EMBEDDED
from guardrail.classifier.targets import (
    CALIBRATION_SCORES,
    Scored,
    Unsupported,
    read_scores,
    resolve,
    write_scores,
)
from guardrail.errors import BundleError
from guardrail.policy import Measure, Target


def draw(rng, positives: int, negatives: int) -> Scored:
    return Scored(rng.beta(5, 2, positives), rng.beta(1, 6, negatives), "drawn")


LARGE = draw(np.random.default_rng(0), 200_000, 200_000)


def truth(measure: Measure, threshold: float, share: float) -> float:
    recall = float((LARGE.positive >= threshold).mean())
    fpr = float((LARGE.negative >= threshold).mean())
    if measure is Measure.PRECISION:
        return share * recall / (share * recall + (1 - share) * fpr)
    return recall if measure is Measure.RECALL else fpr


@pytest.mark.parametrize(
    ("measure", "value"), [(Measure.FPR, 0.05), (Measure.RECALL, 0.9), (Measure.PRECISION, 0.9)]
)
def test_the_guarantee_holds_as_often_as_it_says(measure: Measure, value: float) -> None:
    held = []
    for seed in range(200):
        scored = draw(np.random.default_rng(seed + 1), 300, 300)
        found = resolve("c", "flag", Target(measure, value, 0.9), scored)
        real = truth(measure, found.threshold, 0.5)
        held.append(real <= value if measure is Measure.FPR else real >= value)
    assert np.mean(held) >= 0.86  # 0.90 less three standard errors


@pytest.mark.parametrize(
    ("measure", "value", "words"),
    [
        (Measure.FPR, 0.01, "at least 299 texts that do not violate; 50 are there"),
        (Measure.RECALL, 0.99, "at least 299 texts that violate; 50 are there"),
        (Measure.PRECISION, 0.99, "all of them violating"),
    ],
)
def test_a_target_that_the_data_cannot_support_is_refused(measure, value, words) -> None:
    few = Scored(np.full(50, 0.9), np.full(50, 0.1), "few")
    with pytest.raises(Unsupported, match=words):
        resolve("c", "flag", Target(measure, value), few)


def test_no_data_is_refused() -> None:
    nothing = Scored(np.zeros(0), np.zeros(0), "none")
    for measure in Measure:
        with pytest.raises(Unsupported):
            resolve("c", "flag", Target(measure, 0.5), nothing)


def test_ties_never_break_the_promise() -> None:
    tied = Scored(np.full(400, 1.0), np.concatenate([np.full(20, 0.7), np.full(380, 0.2)]), "tied")
    found = resolve("c", "block", Target(Measure.FPR, 0.01), tied)
    assert 0.7 < found.threshold <= 1.0
    assert (found.estimate, found.positives, found.negatives) == (0.0, 400, 400)
    assert found.bound <= 0.01
    with pytest.raises(Unsupported, match="probability 1"):
        resolve("c", "block", Target(Measure.FPR, 0.01), Scored(tied.positive, np.ones(400), ""))


def test_scores_are_kept_with_a_model_and_read_again(tmp_path) -> None:
    chances = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    labels = np.array([[1, 0], [0, 1], [-1, -1]])
    write_scores(tmp_path / CALIBRATION_SCORES, ["unsafe", "hate"], chances, labels)
    kept = read_scores(tmp_path)
    assert kept["unsafe"].positive == pytest.approx([0.9], abs=1e-4)
    assert kept["hate"].negative == pytest.approx([0.1], abs=1e-4)


def test_a_model_without_scores_says_what_to_do(tmp_path) -> None:
    with pytest.raises(BundleError, match="give the policy 'calibration:'"):
        read_scores(tmp_path)
    (tmp_path / CALIBRATION_SCORES).write_bytes(b"no")
    with pytest.raises(BundleError, match="cannot be read"):
        read_scores(tmp_path)


def test_the_embedded_model_comes_with_scores_for_targets() -> None:
    kept = read_scores(EMBEDDED)
    found = resolve("unsafe", "flag", Target(Measure.FPR, 0.05), kept["unsafe"])
    assert 0.05 < found.threshold < 0.999
    assert found.bound <= 0.05
    assert found.source == "the model's calibration data"
