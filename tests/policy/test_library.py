"""The bundled policies: examples for each category, on both sides, and they pass."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from json import loads
from pathlib import Path

import pytest

from guardrail.classifier import load_classifier
from guardrail.classifier.labels import read_labels
from guardrail.classifier.prepare import PreparedPolicies
from guardrail.classifier.rubrics import same_text
from guardrail.cli.policy_suite import Case, Outcome, Remembering, suite
from guardrail.policy import Policy, bundled, bundled_names

LEAST_PASSING = 12
MOST_GAPS = 0.1
HAIR = 0.02
"""Probabilities this near to a threshold may lie on its other side on another kind of CPU, whose
int8 kernels round otherwise."""


@pytest.fixture(scope="module")
def suites() -> dict[str, list[Case]]:
    """The suite of each bundled policy, each text read once."""
    model = Remembering(load_classifier())
    prepared = PreparedPolicies(model)
    return {name: suite(prepared.get(bundled(name)), model) for name in bundled_names()}


def _by_a_hair(case: Case, policy: Policy) -> bool:
    bars = ((case.verdict.scores.get(rule.category), rule.lowest) for rule in policy.rules)
    return any(p is not None and bar is not None and abs(p - bar) < HAIR for p, bar in bars)


@pytest.mark.parametrize("name", bundled_names())
def test_a_policy_passes_its_own_tests(name: str, suites) -> None:
    failed = [case for case in suites[name] if case.outcome is Outcome.FAILED]
    clear = [(c.place, c.row.text) for c in failed if not _by_a_hair(c, bundled(name))]
    assert not clear, (
        "after a change of model or thresholds run "
        "`guardrail policy test policies/*.yaml --mark-gaps` and look at what it marks"
    )
    assert len(failed) <= 0.01 * len(suites[name])


@pytest.mark.parametrize("name", bundled_names())
def test_every_category_has_twelve_texts_of_each_side_that_pass(name: str, suites) -> None:
    passed = [case for case in suites[name] if case.expected]
    for rule in bundled(name).rules:
        if rule.category == "unsafe":
            continue  # every text of the taxonomy is one of its
        for violates in (True, False):
            own = [
                c for c in passed if (c.row.category, c.row.violates) == (rule.category, violates)
            ]
            assert len(own) >= LEAST_PASSING, (rule.category, violates)


@pytest.mark.parametrize("name", bundled_names())
def test_few_texts_are_known_gaps_and_each_says_why(name: str, suites) -> None:
    gaps = [case.gap for case in suites[name] if case.gap is not None]
    assert len(gaps) <= MOST_GAPS * len(suites[name])
    assert all(len(why.split()) > 1 for why in gaps)


def _files(policy: Policy) -> Iterator[Path]:
    assert policy.file is not None
    yield from (Path(policy.file).parent / test for test in policy.tests)


def test_no_text_is_one_that_the_model_was_trained_on() -> None:
    texts = {
        same_text(row.text)
        for name in bundled_names()
        for file in _files(bundled(name))
        for row in read_labels(file)
    }
    longest = 2 * max(map(len, texts))
    corpus = resources.files("guardrail.train").joinpath("corpus")
    for file in corpus.iterdir():
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            fields = loads(line).values()
            short = (f for f in fields if isinstance(f, str) and len(f) <= longest)
            shared = texts.intersection(same_text(text) for text in short)
            assert not shared, f"{file.name}:{number}"
