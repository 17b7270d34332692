"""What rules as a classifier promise."""

from __future__ import annotations

from guardrail.classifier.base import Classifier, Sample
from guardrail.classifier.rules import RuleClassifier
from guardrail.policy import parse_policy
from guardrail.types import Evidence

POLICY = parse_policy(
    """
version: 1
name: t
categories:
  hate: {flag: 0.5}
  rivals: {flag: 0.5, words: [acme], patterns: ['glob[eo]x']}
  leaks: {block: 0.5, detectors: [email]}
"""
)


def test_a_match_is_certain_and_says_where_it_is() -> None:
    rules = RuleClassifier(POLICY)
    assert isinstance(rules, Classifier)
    assert rules.categories == ("rivals", "leaks")
    hit, miss = rules.score([Sample("Buy Acme or globex"), Sample("nothing")])
    assert hit.categories == {"rivals": 1.0, "leaks": 0.0}
    assert hit.evidence == (
        Evidence("rivals", "pattern", "pattern 1", 12, 18),
        Evidence("rivals", "word", "word list", 4, 8),
    )
    assert miss.categories == {"rivals": 0.0, "leaks": 0.0}


def test_a_match_across_the_context_counts_and_one_inside_it_does_not() -> None:
    rules = RuleClassifier(POLICY)
    across, inside = rules.score(
        [Sample("bex.", context="glo"), Sample(" and more", context="globex")]
    )
    assert across.categories["rivals"] == 1.0
    assert across.evidence[0].start == 0
    assert inside.categories["rivals"] == 0.0


def test_evidence_never_holds_text() -> None:
    [scores] = RuleClassifier(POLICY).score([Sample("mail bob@example.org about acme")])
    assert "bob" not in repr(scores)
    assert "acme" not in repr(scores)
