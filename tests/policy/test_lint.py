"""What lint finds, and that it leaves sound policies alone."""

from __future__ import annotations

import pytest

from guardrail.policy import bundled, bundled_names, parse_policy
from guardrail.policy.lint import lint

HEAD = "version: 1\nname: t\n"


def remarks(body: str) -> str:
    return "\n".join(str(r) for r in lint(parse_policy(f"{HEAD}{body}")))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("categories: {hate: {action: pass}}", "does nothing"),
        ("categories: {hate: {flag: 0.5, block: 0.8, action: flag}}", "no effect"),
        ("categories: {hate: {flag: 0.5, block: 0.5}}", "never flags"),
        ("categories: {hate: {flag: 0}}", "every text"),
        ("categories: {hate: {flag: 0.5, review: [0.2, 0.5]}}", "who will see no text"),
        ("categories: {hate: {block: 0.999}}", "hardly ever reached"),
        ("categories: {hate: {block: 0.5, review: [0.6, 0.7]}}", "lies above"),
        ("categories: {hate: {flag: 0.5, direction: output, roles: [user]}}", "on input only"),
        ("categories: {hate: {flag: 0.5, roles: [system]}}", "input.roles"),
        ("categories: {hate: {flag: 0.5, patterns: ['x*']}}", "empty text"),
        ("categories: {hate: {flag: 0.5, patterns: ['[a-z]+']}}", "ordinary words"),
        ("categories: {hate: {flag: 0.5, words: [ab]}}", "by accident"),
        ("categories: {hate: {flag: 0.5, words: [acme, Acme]}}", "are the same"),
        (
            "categories: {own: {flag: 0.5, rubric: x, "
            "examples: {violates: [A b], allowed: [a  B]}}}",
            "violates[0] and allowed[0]",
        ),
        (
            "categories: {own: {flag: 0.5, words: [acme], examples: {allowed: [about acme]}}}",
            "allowed[0] is caught",
        ),
        (
            "categories: {own: {flag: 0.5, words: [acme], examples: {violates: [about]}}}",
            "violates[0] is caught by no pattern",
        ),
        ("categories: {a: {flag: 1, words: [acme]}, b: {flag: 1, words: [ACME]}}", "also in 'a'"),
        ("categories: {a: {flag: 0.5, patterns: [qq]}, b: {flag: 0.5, patterns: [qq]}}", "also in"),
        (
            "categories: {a: {flag: 1, rubric: Sells fish}, b: {flag: 1, rubric: sells fish.}}",
            "says nearly what",
        ),
        ("categories: {}", "no rules"),
    ],
)  # fmt: skip
def test_what_cannot_do_what_it_says_is_found(body: str, words: str) -> None:
    assert words in remarks(body)


def test_a_rubric_that_is_the_taxonomy_s_is_pointed_there() -> None:
    rubric = "Crude, obscene or abusive language meant to offend."
    assert "taxonomy's 'profanity_toxicity'" in remarks(
        f"categories: {{own: {{flag: 0.5, rubric: '{rubric}'}}}}"
    )


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_policies_have_no_remarks(name: str) -> None:
    assert lint(bundled(name)) == ()
