"""Abstaining: the guarantee holds as often as it says, and verdicts follow the policy."""

from __future__ import annotations

import numpy as np
import pytest

from guardrail.classifier.abstain import abstention
from guardrail.classifier.bundle import EMBEDDED
from guardrail.classifier.calibration import GROUPS, Platt
from guardrail.classifier.prepare import PreparedPolicies, prepare
from guardrail.classifier.recalibrated import recalibrate
from guardrail.classifier.recalibration import OutputMap, Recalibration
from guardrail.classifier.targets import Scored, Unsupported, read_scores
from guardrail.decide import decide, undecided
from guardrail.errors import PolicyError
from guardrail.policy import Abstain, OnAbstain, parse_policy
from guardrail.types import Action, Direction, Evidence, Role, Scores

REVIEW = Abstain(0.9, OnAbstain.REVIEW)


def draw(rng: np.random.Generator, positives: int, negatives: int) -> Scored:
    return Scored(rng.beta(4, 3, positives), rng.beta(1.5, 5, negatives), "drawn")


def test_each_bound_holds_as_often_as_it_says() -> None:
    large = draw(np.random.default_rng(0), 100_000, 100_000)
    missed, alarms = [], []
    for seed in range(300):
        found = abstention("c", REVIEW, draw(np.random.default_rng(seed + 1), 150, 150)).abstain
        missed.append((large.positive < found.low).mean() <= 0.1)
        alarms.append((large.negative >= found.high).mean() <= 0.1)
    assert np.mean(missed) >= 0.912  # 0.95 less three standard errors
    assert np.mean(alarms) >= 0.912


def test_a_model_that_tells_all_apart_never_abstains() -> None:
    clear = Scored(np.linspace(0.8, 0.9, 100), np.linspace(0.1, 0.2, 100), "clear")
    found = abstention("c", REVIEW, clear)
    assert found.abstain.low > found.abstain.high
    assert found.violating == found.others == 0.0
    assert not found.abstain.holds(0.5)


def test_more_confidence_means_abstaining_more_often() -> None:
    scored = draw(np.random.default_rng(0), 2000, 2000)
    shares = [
        abstention("c", Abstain(c, OnAbstain.REVIEW), scored).violating for c in (0.7, 0.9, 0.98)
    ]
    assert shares == sorted(shares)
    assert shares[-1] > shares[0]


def test_too_few_texts_are_refused_with_the_number_that_it_takes() -> None:
    few = draw(np.random.default_rng(0), 20, 400)
    with pytest.raises(Unsupported, match="needs at least 29 texts that violate; 20 are there"):
        abstention("c", REVIEW, few)


def ready(model, action: str, rule: str = "flag: 0.3, block: 0.6"):
    policy = parse_policy(
        "version: 1\nname: t\nnormalise: false\ntimeout_ms: 9000\n"
        "guards: {big: {kind: openai_logprobs, url: 'http://127.0.0.1:1/v1', model: m}}\n"
        f"categories: {{unsafe: {{{rule}, abstain: {{confidence: 0.98, {action}}}}}}}\n"
    )
    return prepare(policy, model)


def verdict(prepared, p: float, **more):
    scores = Scores({"unsafe": p}, "m", **more)
    return decide(prepared.policy, Direction.INPUT, Role.USER, scores)


@pytest.fixture(scope="module")
def band(embedded) -> tuple[float, float]:
    found = ready(embedded, "action: review").policy.rules[0].abstain
    return found.low, found.high


def test_the_shipped_model_has_a_band_and_its_policy_a_new_hash(embedded, band) -> None:
    low, high = band
    assert 0 < low < high < 1
    prepared = ready(embedded, "action: review")
    [unsure] = prepared.abstentions
    assert (unsure.low.bound >= 0.98, unsure.high.bound <= 0.02) == (True, True)
    assert 0 < unsure.others < 1
    assert unsure.low.positives == len(read_scores(EMBEDDED)["unsafe"].positive)
    assert prepared.policy.content_hash != ready(embedded, "action: pass").policy.content_hash


@pytest.mark.parametrize(
    ("action", "below", "inside", "above"),
    [
        ("block", Action.PASS, Action.BLOCK, Action.BLOCK),
        ("flag", Action.PASS, Action.FLAG, Action.BLOCK),
        ("pass", Action.PASS, Action.PASS, Action.BLOCK),
    ],
)
def test_abstaining_means_what_the_policy_says(
    embedded, band, action, below, inside, above
) -> None:
    low, high = band
    prepared = ready(embedded, f"action: {action}", f"flag: {low:.4f}, block: {high:.4f}")
    middle = verdict(prepared, (low + high) / 2)
    assert middle.action is inside
    assert {f.reason for f in middle.findings} <= {"abstain"}
    assert verdict(prepared, low * 0.9).action is below
    assert verdict(prepared, high + (1 - high) / 2).action is above


def test_a_person_is_asked_inside_the_band_only(embedded, band) -> None:
    low, high = band
    prepared = ready(embedded, "action: review", "flag: 0.999")
    inside = verdict(prepared, (low + high) / 2)
    assert inside.review
    assert inside.action is Action.PASS
    assert inside.findings[0].reason == "abstain"
    assert not verdict(prepared, low * 0.9).review
    assert not verdict(prepared, high).review


def test_a_bigger_guard_is_asked_inside_the_band(embedded, band) -> None:
    low, high = band
    policy = ready(embedded, "action: escalate, guard: big").policy

    def asked(p: float) -> int:
        return len(undecided(policy, Direction.INPUT, Role.USER, Scores({"unsafe": p}, "m")))

    assert (asked(low * 0.9), asked((low + high) / 2), asked(high)) == (0, 1, 0)


def test_a_match_of_a_pattern_is_no_abstention(embedded, band) -> None:
    prepared = ready(embedded, "action: flag")
    found = verdict(prepared, band[0], evidence=(Evidence("unsafe", "word", "w"),))
    assert [f.reason for f in found.findings] == ["word"]


def test_a_category_without_data_says_what_it_takes(marker) -> None:
    with pytest.raises(PolicyError, match=r"to abstain at confidence 0\.98: .* at least 149"):
        ready(marker, "action: flag")


def test_a_policy_is_resolved_once(embedded) -> None:
    policies = PreparedPolicies(embedded)
    policy = parse_policy(
        "version: 1\nname: t\ncategories: "
        "{unsafe: {flag: 0.5, abstain: {confidence: 0.9, action: review}}}"
    )
    settled = policies.get(policy).policy
    assert settled.rules[0].resolved
    assert policies.get(settled).policy is settled


def test_an_own_calibration_brings_its_own_labels(tmp_path, embedded) -> None:
    rng = np.random.default_rng(0)
    own = Scored(rng.uniform(0.5, 1, 200), rng.uniform(0, 0.7, 200), "mine")
    maps = {"unsafe": OutputMap("platt", dict.fromkeys(GROUPS, Platt(1.0, -1.0)))}
    Recalibration(embedded.model_id, maps, {"unsafe": own}).save(tmp_path / "own.json")
    model = recalibrate(embedded, tmp_path / "own.json")
    [unsure] = ready(model, "action: review").abstentions
    assert (unsure.low.positives, unsure.low.source) == (200, "your calibration")
