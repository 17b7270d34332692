"""Probabilities of another classifier are joined with rows, or refused with their line."""

from __future__ import annotations

import json

import pytest

from guardrail.errors import DataError
from guardrail.evaluate.joining import join_scores
from guardrail.evaluate.rows import parse_row


@pytest.mark.parametrize(
    "bad", [{"categories": [1, 2]}, {"categories": "hate"}, {"unsafe": True}, {"unsafe": 10**400}]
)
def test_what_is_no_probability_by_category_is_named(tmp_path, bad) -> None:
    (tmp_path / "s.jsonl").write_text(json.dumps({"id": "1", **bad}) + "\n")
    row = parse_row({"id": "1", "text": "a", "unsafe": 1}, "s", 1)
    with pytest.raises(DataError, match=r"s\.jsonl:1: "):
        join_scores([row], tmp_path / "s.jsonl")
