"""What preparing a policy promises, and the labels that it may be given."""

from __future__ import annotations

import json

import pytest

from guardrail.classifier.base import Sample
from guardrail.classifier.labels import read_labels
from guardrail.classifier.prepare import prepare
from guardrail.errors import DataError, PolicyError
from guardrail.policy import load_policy, parse_policy
from guardrail.types import Direction, Role


def write(tmp_path, body: str, rows: int = 400):
    labels = [{"text": f"BAD {n}", "category": "hate", "violates": True} for n in range(rows)] + [
        {"text": f"fine {n}", "violates": False} for n in range(rows)
    ]
    text = "\n".join(json.dumps(row) for row in labels)
    (tmp_path / "labels.jsonl").write_text(text, encoding="utf-8")
    file = tmp_path / "p.yaml"
    file.write_text(f"version: 1\nname: t\ncalibration: labels.jsonl\n{body}", encoding="utf-8")
    return load_policy(file)


def test_targets_become_probabilities_and_part_of_the_hash(tmp_path, marker) -> None:
    policy = write(tmp_path, "categories: {hate: {flag: {recall: 0.9}, block: {fpr: 0.01}}}")
    # The marker scores 0.99 or 0.01, so that recall may flag from 0.99 on.
    with pytest.raises(PolicyError, match="so it would never flag"):
        prepare(policy, marker)
    policy = write(tmp_path, "categories: {hate: {flag: {fpr: 0.01}, block: 0.9}}")
    ready = prepare(policy, marker)
    rule = ready.policy.rules[0]
    assert rule.resolved
    assert rule.flag is not None
    assert 0.01 < rule.flag < 0.02
    assert ready.policy.content_hash != policy.content_hash
    [found] = ready.targets
    assert (found.positives, found.negatives, found.source) == (400, 400, "labels.jsonl")


def test_what_the_labels_cannot_support_is_refused(tmp_path, marker) -> None:
    policy = write(tmp_path, "categories: {hate: {flag: {fpr: 0.01}}}", rows=20)
    with pytest.raises(PolicyError, match=r"p\.yaml: 'hate': fpr <= 0.01 .* needs at least 299"):
        prepare(policy, marker)


def test_a_policy_without_targets_stays_as_it_is(marker) -> None:
    policy = parse_policy("version: 1\nname: t\ncategories: {hate: {flag: 0.5}}")
    ready = prepare(policy, marker)
    assert ready.policy is policy
    assert ready.classifier.score([Sample("BAD")])[0].categories["hate"] == 0.99


def test_a_row_knows_who_speaks_and_which_way(tmp_path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"text": "a", "violates": false}\n\n'
        '{"text": "b", "violates": true, "category": "hate", "role": "assistant", "prompt": "q"}\n'
    )
    first, second = read_labels(file)
    assert (first.category, first.role, first.direction) == (None, Role.USER, Direction.INPUT)
    assert (second.sample, second.direction, second.line) == (
        Sample("b", Role.ASSISTANT, "q"), Direction.OUTPUT, 3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[]", 'with "text"'),
        ('{"text": "a"}', "true or false"),
        ('{"text": "a", "violates": 1}', "true or false"),
        ('{"text": "a", "violates": true}', "name the"),
        ('{"text": "a", "violates": false, "role": "king"}', "use one of"),
        ('{"text": "a", "violates": false, "category": 3}', "category key"),
        ('{"text": "a", "violates": false, "known_gap": " "}', "say why"),
        ('{"text": "a", "violates": false, "known_gap": true}', "say why"),
        ('{"text": "a", "violates": false, "gap_in": ["p"]}', "give both"),
        ('{"text": "a", "violates": false, "known_gap": "x", "gap_in": []}', "give both"),
        ('{"text": "a", "violates": false, "known_gap": "x", "gap_in": "p"}', "list of names"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path, line: str, words: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"text": "a", "violates": false}}\n{line}\n')
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: .*{words}"):
        read_labels(file)


def test_a_file_that_is_no_text_is_refused(tmp_path) -> None:
    (tmp_path / "x").write_bytes(b"\xff")
    for name in ("x", "none"):
        with pytest.raises(DataError, match=name):
            read_labels(tmp_path / name)
