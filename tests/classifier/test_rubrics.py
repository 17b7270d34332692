"""What rubric heads promise: seconds, calibration, warnings, and refitting only on change."""

from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import pytest

from guardrail.classifier.base import Classifier, Sample
from guardrail.classifier.compose import for_policy
from guardrail.classifier.heads import FOLDER, HeadStore, fit_policy, heads_for
from guardrail.classifier.rubrics import Backdrop, fit_head, inputs_hash
from guardrail.errors import PolicyError
from guardrail.policy import Examples, load_policy, parse_policy

WORDS = ["apple", "pear", "plum", "cherry", "fig", "grape", "melon", "quince"]
TOOLS = ["saw", "drill", "hammer", "chisel", "file", "vice", "plane", "wrench"]
TEXT = f"""
version: 1
name: fruit
normalise: false
categories:
  hate: {{flag: 0.5}}
  fruit:
    rubric: Talks about fruit such as apple or pear.
    flag: 0.5
    examples:
      violates: [{", ".join(f"I like {w} and fruit" for w in WORDS)}]
      allowed: [{", ".join(f"I use a {w} and wood" for w in TOOLS)}]
"""


class BagOfWords:
    """An encoder of one layer that gives a text the sum of a random vector for each word."""

    model_id = "bag@1"
    categories = ("hate",)

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, texts):
        self.embedded += len(texts)
        rows = np.zeros((len(texts), 1, 96), dtype=np.float32)
        for n, text in enumerate(texts):
            for word in text.lower().split():
                seed = np.frombuffer(word[:8].ljust(8).encode("utf-32-le"), dtype=np.uint32)
                rows[n, 0] += np.random.default_rng(seed).normal(size=96).astype(np.float32)
        return rows

    def score(self, samples):
        return self.score_and_embed(samples)[0]

    def score_and_embed(self, samples):
        from guardrail.types import Coverage, Scores

        rows = self.embed([s.context + s.text for s in samples])
        scores = [
            Scores({"unsafe": 0.1, "hate": 0.1}, self.model_id, Coverage(len(s.text), len(s.text)))
            for s in samples
        ]
        return scores, [row[None] for row in rows]


@pytest.fixture
def policy(tmp_path):
    file = tmp_path / "fruit.yaml"
    file.write_text(TEXT, encoding="utf-8")
    return load_policy(file)


def test_a_head_tells_new_texts_apart() -> None:
    bag = BagOfWords()
    [fit] = fit_policy(parse_policy(TEXT), bag)
    texts = ["a plum and fruit", "fruit and melon", "a drill and wood", "the weather in May"]
    chances = fit.head.probability(bag.embed(texts))
    assert (chances[:2] > 0.5).all()
    assert (chances[2:] < 0.5).all()


def test_no_example_vouches_for_itself() -> None:
    """Of labels without any rhyme or reason, the report must not look good."""
    bag = BagOfWords()
    rule = parse_policy(TEXT).rules[1]
    noise = [f"word{n} thing{n} item{n}" for n in range(40)]
    mixed = dataclasses.replace(rule, examples=Examples(tuple(noise[::2]), tuple(noise[1::2])))
    fit = fit_head(mixed, bag, Backdrop.of(bag))
    assert fit.violates.mean() - fit.allowed.mean() < 0.15


def test_leave_one_out_is_what_leaving_one_out_gives() -> None:
    from guardrail.classifier.rubrics import RIDGE, _ridge

    rng = np.random.default_rng(0)
    design = rng.normal(size=(12, 5))
    target = np.sign(rng.normal(size=12))
    weight = rng.uniform(0.5, 2, 12)
    _, _, left_out = _ridge(design, target, weight)
    kept = np.arange(12) != 3
    slope, offset, _ = _ridge(design[kept], target[kept], weight[kept])
    assert left_out[3] == pytest.approx(design[3] @ slope + offset)
    assert RIDGE > 0


def test_a_rubric_alone_makes_a_head_and_says_how_unsure_it_is() -> None:
    bag = BagOfWords()
    rule = dataclasses.replace(parse_policy(TEXT).rules[1], examples=Examples())
    fit = fit_head(rule, bag, Backdrop.of(bag))
    close, far = fit.head.probability(bag.embed([rule.rubric or "", "a saw in the shed"]))
    assert close > far
    assert any("rubric alone" in words for words in fit.warnings)


def test_few_and_contradicting_examples_are_named() -> None:
    bag = BagOfWords()
    rule = dataclasses.replace(
        parse_policy(TEXT).rules[1],
        examples=Examples(("ripe fruit here", "a pear"), ("ripe fruit here !",)),
    )
    said = " ".join(fit_head(rule, bag, Backdrop.of(bag)).warnings)
    assert "2 violating and 1 allowed" in said
    assert "violates[0] and allowed[0] say nearly the same" in said


def test_a_head_is_kept_beside_the_policy_and_refitted_only_on_change(policy, tmp_path) -> None:
    bag = BagOfWords()
    [head] = heads_for(policy, bag)
    [file] = (tmp_path / FOLDER).iterdir()
    assert head.inputs[:16] in file.name
    bag.embedded = 0
    [again] = heads_for(policy, bag)
    assert bag.embedded == 0
    rows = np.eye(96, dtype=np.float32)[:, None]
    assert again.probability(rows) == pytest.approx(head.probability(rows), abs=1e-3)
    rule = policy.rules[1]
    moved = dataclasses.replace(rule, flag=0.9)
    assert inputs_hash(moved, bag.model_id) == inputs_hash(rule, bag.model_id)
    for change in ({"rubric": "x"}, {"examples": Examples(("a",), ())}):
        assert inputs_hash(dataclasses.replace(rule, **change), "bag@1") != head.inputs
    assert inputs_hash(rule, "other@1") != head.inputs


def test_a_damaged_head_is_fitted_again(policy, tmp_path) -> None:
    bag = BagOfWords()
    heads_for(policy, bag)
    [file] = (tmp_path / FOLDER).iterdir()
    raw = json.loads(file.read_text())
    for damage in (
        "{",
        "[]",
        json.dumps({**raw, "weights": [1]}),
        json.dumps({**raw, "centre": raw["centre"][0]}),
        json.dumps({**raw, "offset": None}),
    ):
        file.write_text(damage)
        assert HeadStore(tmp_path / FOLDER).read("fruit", raw["inputs"]) is None
    bag.embedded = 0
    heads_for(policy, bag)
    assert bag.embedded > 0
    assert json.loads(file.read_text())["inputs"] == raw["inputs"]


def test_own_categories_appear_beside_the_model_s(policy) -> None:
    classifier = for_policy(policy, BagOfWords())
    assert isinstance(classifier, Classifier)
    assert classifier.categories == ("hate", "fruit")
    yes, no = classifier.score([Sample("a pear and fruit"), Sample("a saw and wood")])
    assert yes.categories["fruit"] > 0.5 > no.categories["fruit"]
    assert yes.categories["hate"] == 0.1
    assert yes.model == classifier.model_id != "bag@1"


def test_a_policy_that_needs_nothing_else_gets_the_model_itself(marker) -> None:
    plain = parse_policy("version: 1\nname: t\nnormalise: false\ncategories: {hate: {flag: 1}}")
    assert for_policy(plain, marker) is marker


def test_a_model_without_embeddings_is_refused(marker, policy) -> None:
    with pytest.raises(PolicyError, match=r"fruit\.yaml: 'fruit' has a rubric, and marker@0"):
        for_policy(policy, marker)


def test_rules_and_heads_join_by_the_higher_probability(marker) -> None:
    policy = parse_policy(
        "version: 1\nname: t\ncategories:\n  hate: {flag: 0.5, words: [zork]}\n"
        "  own: {flag: 0.5, words: [acme]}"
    )
    classifier = for_policy(policy, marker)
    word, own = classifier.score([Sample("zork"), Sample("acme BAD")])
    assert (word.categories["hate"], word.categories["own"]) == (1.0, 0.0)
    assert (own.categories["hate"], own.categories["own"]) == (0.99, 1.0)
    assert word.evidence[0].category == "hate"


def test_sixteen_examples_fit_in_seconds_on_the_embedded_model() -> None:
    from guardrail.classifier import load_classifier

    model = load_classifier()
    started = time.process_time()
    [fit] = fit_policy(parse_policy(TEXT), model)
    assert time.process_time() - started < 30.0
    assert fit.head.weights.shape == (fit.head.centre.size,)
    assert fit.violates.mean() > fit.allowed.mean()


def test_where_the_policy_s_folder_is_read_only_heads_go_to_the_user_s_cache(
    policy, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("os.access", lambda *_: False)
    heads_for(policy, BagOfWords())
    assert len(list((tmp_path / "cache" / "guardrail" / "heads").iterdir())) == 1
    assert HeadStore.beside(parse_policy(TEXT)).folder is None
