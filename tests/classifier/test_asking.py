"""What asking any model about some rubrics promises."""

from __future__ import annotations

import numpy as np
import pytest

from guardrail.classifier.answers import Answers
from guardrail.classifier.asking import RubricJudge, rubrics_of
from guardrail.classifier.base import Judge, Sample
from guardrail.classifier.questions import RUBRICS
from guardrail.policy import parse_policy
from guardrail.taxonomy import CATEGORIES
from guardrail.types import Role


class Model:
    """Says yes to fish, and reads no more than ten characters of it."""

    model_id = "model@1"

    def __init__(self, dropped: int = 0) -> None:
        self.prompts: list[str] = []
        self.dropped = dropped

    def answers(self, prompts, options) -> Answers:
        self.prompts += [prompt.text for prompt in prompts]
        yes = [0.9 if "fish" in prompt.text else 0.0 for prompt in prompts]
        with np.errstate(divide="ignore"):
            logprobs = np.log([[p, 0.1 if p else 1.0] for p in yes]).reshape(-1, 2)
        count = len(prompts)
        return Answers(logprobs, np.full(count, 7), np.full(count, self.dropped))


def test_each_text_is_asked_about_each_category_and_no_other() -> None:
    model = Model()
    judge = RubricJudge(model, {"a": "About birds.", "b": "About cats.", "unsafe": "Harms."})
    assert isinstance(judge, Judge)
    assert judge.categories == ("a", "b")
    found = judge.ask([Sample("fish"), Sample("meat", context="raw ")], ["b", "a"])
    assert [dict(s.categories) for s in found] == [
        pytest.approx({"b": 0.9, "a": 0.9}),
        pytest.approx({"b": 0.0, "a": 0.0}, abs=1e-9),
    ]
    assert len(model.prompts) == 4
    assert "raw meat" in model.prompts[2]
    assert "About cats." in model.prompts[0]
    assert found[0].coverage.tokens == 14
    assert judge.ask([], ["a"]) == []


def test_what_the_model_did_not_read_is_said() -> None:
    judge = RubricJudge(Model(dropped=5), {"a": "x"})
    assert judge.ask([Sample("fish" * 10, Role.ASSISTANT)], ["a"])[0].coverage.truncated


def test_rubrics_are_the_author_s_or_the_taxonomy_s() -> None:
    policy = parse_policy(
        "version: 1\nname: t\ncategories: {unsafe: {flag: 1}, hate: {flag: 1}, "
        "own: {flag: 1, rubric: Sells fish}, shape: {flag: 1, words: [acme]}}"
    )
    assert rubrics_of(policy) == {
        "unsafe": RUBRICS["safety"].text,
        "hate": CATEGORIES["hate"].definition,
        "own": "Sells fish",
    }
