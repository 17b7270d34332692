"""A policy file that review has written is one that loads, whatever the texts are."""

from __future__ import annotations

import pytest

from guardrail.classifier.labels import Labelled
from guardrail.cli.fit_labels import fitted_policy, with_labels
from guardrail.policy import load_policy

POLICY = """version: 1
name: mine
categories:
  refunds: {rubric: It promises a refund., examples: {violates: [a b], allowed: [c d]}, flag: 0.5}
"""


@pytest.mark.parametrize(
    ("text", "kept"),
    [(t, t) for t in ("a\x7fb", "a\x80b", "a\x85b", "a\u2028b", "a\ufeffb", "a\uffffb", "a\x00b")]
    + [("caf\u00e9 \U0001f600", "caf\u00e9 \U0001f600"), ("a\ud800b", "a\ufffdb")],
)
def test_every_text_comes_back_as_it_was(tmp_path, text: str, kept: str) -> None:
    source, out = tmp_path / "mine.yaml", tmp_path / "fitted.yaml"
    source.write_text(POLICY)
    before = load_policy(source)
    settled = with_labels(before, [Labelled(text, "refunds", True)])
    out.write_text(fitted_policy(str(source), before, settled, out), encoding="utf-8")
    assert load_policy(out).rules[0].examples.violates == ("a b", kept)
