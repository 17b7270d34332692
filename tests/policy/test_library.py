"""The bundled policies: examples for each category, on both sides, and they pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from guardrail.classifier.labels import read_labels
from guardrail.classifier.rubrics import same_text
from guardrail.cli.policy import policy_group
from guardrail.policy import Policy, bundled, bundled_names

LEAST_PASSING = 12
MOST_GAPS = 0.1


@pytest.fixture(scope="module")
def reports() -> dict[str, dict[str, Any]]:
    """What `guardrail policy test` says of each bundled policy, each text read once."""
    result = CliRunner().invoke(policy_group, ["test", *bundled_names(), "--json"])
    found = [json.loads(line) for line in result.output.splitlines()]
    return {report["policy"].partition("@")[0]: report for report in found}


@pytest.mark.parametrize("name", bundled_names())
def test_a_policy_passes_its_own_tests(name: str, reports) -> None:
    report = reports[name]
    failed = [case for case in report["cases"] if case["outcome"] == "failed"]
    assert report["passed"], (
        f"{failed[:5]}: after a change of model or thresholds run "
        "`guardrail policy test policies/*.yaml --mark-gaps` and look at what it marks"
    )


@pytest.mark.parametrize("name", bundled_names())
def test_every_category_has_twelve_texts_of_each_side_that_pass(name: str, reports) -> None:
    categories = reports[name]["categories"]
    for rule in bundled(name).rules:
        if rule.category == "unsafe":
            continue  # every text of the taxonomy is one of its
        seen = categories[rule.category]
        assert seen["caught"] >= LEAST_PASSING, rule.category
        assert seen["allowed"] - seen["alarms"] >= LEAST_PASSING, rule.category


@pytest.mark.parametrize("name", bundled_names())
def test_few_texts_are_known_gaps_and_each_says_why(name: str, reports) -> None:
    report = reports[name]
    assert report["counts"]["known_gap"] <= MOST_GAPS * report["texts"]
    for case in report["cases"]:
        assert case["outcome"] == "failed" or len(case["known_gap"].split()) > 1


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
    corpus = resources.files("guardrail.train").joinpath("corpus")
    for file in corpus.iterdir():
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            fields = json.loads(line).values()
            shared = texts.intersection(same_text(f) for f in fields if isinstance(f, str))
            assert not shared, f"{file.name}:{number}"
