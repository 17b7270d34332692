"""Long texts are judged in pieces; what one of them lacks the whole lacks."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from guardrail.check import PIECE_CHARS, Checker
from guardrail.classifier.base import Sample
from guardrail.policy import parse_policy
from guardrail.types import Direction, Role, Scores, Segment
from tests.conftest import MarkerClassifier

POLICY = parse_policy("version: 1\nname: t\ncategories: {unsafe: {flag: 0.5, block: 0.9}}")


@pytest.mark.parametrize("where", [0, 2])
async def test_a_piece_without_a_number_fails_the_check_wherever_it_stands(where: int) -> None:
    class Broken(MarkerClassifier):
        def _one(self, sample: Sample) -> Scores:
            found = super()._one(sample)
            if "MEH" not in sample.text:
                return found
            return replace(found, categories=dict.fromkeys(found.categories, math.nan))

    text = "." * (where * PIECE_CHARS) + "MEH" + "." * (2 * PIECE_CHARS)
    async with Checker(Broken()) as checker:
        verdict = await checker.check(POLICY, Direction.INPUT, Segment(text, Role.USER))
    assert verdict.blocked
    assert {finding.reason for finding in verdict.findings} == {"no_score"}
