"""The bundled policies: at least twelve examples for each category, and they do what they say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from guardrail.classifier import load_classifier
from guardrail.classifier.labels import read_labels
from guardrail.classifier.prepare import prepare
from guardrail.cli.policy_test import _files, _own_examples
from guardrail.policy import bundled, bundled_names

LEAST_CAUGHT, MOST_ALARMS = 0.8, 0.12
"""Of all texts of a policy: the shares that the tests hold it to; docs/policies.md has the measured
ones. `guardrail policy test NAME` prints the texts that fall short."""


@pytest.fixture(scope="module")
def model():
    return load_classifier(threads=1)


@pytest.mark.parametrize("name", bundled_names())
def test_every_category_has_twelve_examples(name: str) -> None:
    policy = bundled(name)
    assert policy.file is not None
    counts: Counter[str] = Counter()
    for test in policy.tests:
        counts.update(str(r.category) for r in read_labels(Path(policy.file).parent / test))
    for rule in policy.rules:
        shown = len(rule.examples.violates) + len(rule.examples.allowed)
        if rule.category == "unsafe":
            continue  # every text of the taxonomy is one of its
        assert counts[rule.category] + shown >= 12, rule.category


@pytest.mark.parametrize("name", bundled_names())
def test_a_policy_catches_what_it_should_and_little_else(name: str, model) -> None:
    ready = prepare(bundled(name), model)
    cases = [*_own_examples(ready, model), *_files(ready, ())]
    bad = [case.passed for case in cases if case.row.violates]
    good = [not case.passed for case in cases if not case.row.violates]
    assert sum(bad) >= LEAST_CAUGHT * len(bad)
    assert sum(good) <= MOST_ALARMS * len(good)
