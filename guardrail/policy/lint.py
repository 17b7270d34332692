"""What can be said of a policy without a model: rules that never act, overlap or contradict.

A policy with such a finding is valid; the author probably meant something else.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from guardrail.policy.abstain import OnAbstain
from guardrail.policy.guards import GuardKind, GuardSpec
from guardrail.policy.patterns import compile_pattern, compile_words
from guardrail.policy.schema import CATEGORY_KEYS
from guardrail.policy.shapes import Matchers
from guardrail.policy.types import AuditText, Policy, Rule, Turns
from guardrail.taxonomy import CATEGORIES
from guardrail.types import Action, Direction, Role

__all__ = ["Remark", "lint"]

ALIKE = 0.85
"""Share of common text from which two rubrics count as the same."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that an author should look at.

    Args:
        path: Where in the policy, such as ``categories.hate``.
        message: What is odd and what to do.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def lint(policy: Policy) -> tuple[Remark, ...]:
    """Look for rules that cannot do what they seem to say.

    Args:
        policy: A valid policy.

    Returns:
        Remarks in the order of the rules; those on the whole policy last.
    """
    found: list[Remark] = []
    for rule in policy.rules:
        place = f"categories.{rule.category}"
        checks = (
            _reach(rule),
            _bands(rule),
            _scope(rule, policy),
            _patterns(rule.matchers),
            _examples(rule),
        )
        found += [Remark(place, text) for text in itertools.chain(*checks)]
    return (*found, *_overlaps(policy), *_guards(policy), *_whole(policy))


def _reach(rule: Rule) -> Iterator[str]:
    """Find thresholds that nothing can reach, or everything does."""
    asks = rule.abstain is not None and rule.abstain.action is OnAbstain.REVIEW
    if rule.action is Action.PASS and rule.review is None and not asks:
        yield "'action: pass' without a 'review:' band does nothing; remove the rule"
    if rule.action is Action.FLAG and (rule.block is not None or rule.block_target):
        yield "'block:' has no effect under 'action: flag'; remove one of them"
    if rule.flag is not None and rule.flag == rule.block and rule.action is Action.BLOCK:
        yield "'flag:' equals 'block:', so it never flags; lower it or remove it"
    for name, value in (("flag", rule.flag), ("block", rule.block)):
        if value == 0.0:
            yield f"'{name}: 0' is crossed by every text; raise it"
        elif value is not None and value > 0.995 and not rule.matchers:
            yield f"'{name}: {value:g}' is hardly ever reached by a calibrated model; lower it"
    if rule.review and rule.block is not None and rule.review.low >= rule.block:
        yield "the 'review:' band lies above 'block:', where nothing is left to decide; lower it"


def _bands(rule: Rule) -> Iterator[str]:
    """Find bands of ``escalate:`` that nothing falls into, or too much does."""
    band = rule.escalate
    if band is None:
        return
    if rule.action is Action.PASS and rule.review is None:
        yield "'escalate:' asks a guard whose answer changes nothing; add a threshold or 'review:'"
    shape_only = rule.category not in CATEGORY_KEYS and not rule.rubric
    if shape_only and 0 < band.low < band.high <= 1:
        yield "patterns, words and detectors give 0 or 1, never the 'escalate:' band; remove it"
    elif band.low == 0:
        yield "the 'escalate:' band begins at 0, so nearly every text goes to the guard; raise it"


def _guards(policy: Policy) -> Iterator[Remark]:
    """Find guards that nobody asks, and those whose numbers are no probabilities yet."""
    used = {rule.escalate.guard for rule in policy.rules if rule.escalate}
    used |= {rule.abstain.guard for rule in policy.rules if rule.abstain}
    for name, spec in policy.guards.items():
        place = f"guards.{name}"
        if name not in used:
            yield Remark(place, "no rule escalates to it; remove it or add 'escalate:' to one")
        elif not spec.calibration and not _calibrated_as_it_comes(spec):
            text = "it is not calibrated; `guardrail cascade tune` fits it on labelled data"
            yield Remark(place, text)
        if spec.key_env and spec.url.startswith("http://") and "://127.0.0.1" not in spec.url:
            yield Remark(place, "its key travels over plain http; use https")


def _calibrated_as_it_comes(spec: GuardSpec) -> bool:
    """Whether a guard is a bundle, which brings its calibration."""
    lm = spec.form or spec.model.startswith(("hf:", "guard:")) or spec.model.endswith(".gguf")
    return spec.kind is GuardKind.LOCAL and not lm


def _scope(rule: Rule, policy: Policy) -> Iterator[str]:
    if rule.directions == {Direction.OUTPUT} and rule.roles != frozenset(Role):
        yield "'roles:' counts on input only, and this rule is for output; remove it"
    if Direction.INPUT in rule.directions and not (rule.roles & policy.roles):
        names = ", ".join(sorted(role.value for role in rule.roles))
        yield f"no text of its roles ({names}) is checked; add them to 'input.roles'"


def _patterns(matchers: Matchers) -> Iterator[str]:
    for number, pattern in enumerate(matchers.patterns):
        if compile_pattern(pattern).matches_nothing():
            yield f"patterns[{number}] matches an empty text, and so every one; require something"
        elif next(compile_pattern(pattern).find("the quick brown fox", 1), None):
            yield f"patterns[{number}] matches ordinary words; make it stricter"
    short = [word for word in matchers.words if len(word) < 3]
    if short:
        yield f"the word '{short[0]}' is so short that it will match by accident; lengthen it"
    seen: dict[str, str] = {}
    for word in matchers.words:
        key = " ".join(word.casefold().split())
        if key in seen:
            yield f"the words '{seen[key]}' and '{word}' are the same; remove one"
        seen[key] = word


def _examples(rule: Rule) -> Iterator[str]:
    """Find examples that contradict one another or the patterns."""
    sides = {"violates": rule.examples.violates, "allowed": rule.examples.allowed}
    plain = {side: {_plain(t): n for n, t in enumerate(texts)} for side, texts in sides.items()}
    for text in plain["violates"].keys() & plain["allowed"].keys():
        one, other = plain["violates"][text], plain["allowed"][text]
        yield f"violates[{one}] and allowed[{other}] are the same text; decide for one side"
    for number, text in enumerate(rule.examples.allowed):
        if _matches(rule.matchers, text):
            yield f"allowed[{number}] is caught by the patterns or words; loosen them or move it"
    only_shape = rule.matchers and not rule.rubric and rule.category not in CATEGORY_KEYS
    if only_shape and not rule.matchers.detectors:
        for number, text in enumerate(rule.examples.violates):
            if not _matches(rule.matchers, text):
                yield f"violates[{number}] is caught by no pattern or word; add one or a rubric"


def _matches(matchers: Matchers, text: str) -> bool:
    tests = [compile_pattern(p) for p in matchers.patterns]
    if matchers.words:
        tests.append(compile_words(matchers.words))
    return any(next(test.find(text, 1), None) for test in tests)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _overlaps(policy: Policy) -> Iterator[Remark]:
    """Find categories that say the same twice."""
    for left, right in itertools.combinations(policy.rules, 2):
        place = f"categories.{right.category}"
        words = {_plain(w) for w in left.matchers.words} & {_plain(w) for w in right.matchers.words}
        if words:
            word = min(words)
            yield Remark(place, f"the word '{word}' is also in '{left.category}'; keep one")
        for pattern in set(left.matchers.patterns) & set(right.matchers.patterns):
            yield Remark(place, f"the pattern '{pattern}' is also in '{left.category}'; keep one")
        if left.rubric and right.rubric and _alike(left.rubric, right.rubric):
            yield Remark(place, f"its rubric says nearly what '{left.category}' says; join them")
    for rule in policy.rules:
        near = [
            k for k, c in CATEGORIES.items() if rule.rubric and _alike(rule.rubric, c.definition)
        ]
        if near:
            yield Remark(
                f"categories.{rule.category}",
                f"its rubric is the taxonomy's '{near[0]}'; use that key, which is trained for it",
            )


def _alike(one: str, other: str) -> bool:
    return difflib.SequenceMatcher(None, _plain(one), _plain(other)).ratio() > ALIKE


def _whole(policy: Policy) -> Iterator[Remark]:
    if not policy.rules:
        yield Remark("categories", "there are no rules, so everything passes unchecked; add some")
    stream = policy.stream
    if stream.stride_chars < stream.first_chars:
        yield Remark("stream.stride_chars", "it is below 'first_chars'; raise it")
    reviewed = any(rule.review for rule in policy.rules)
    if reviewed and policy.audit.text in (AuditText.NONE, AuditText.HASH):
        text = "a review band asks a person, who will see no text; keep it 'encrypted' or 'plain'"
        yield Remark("audit.text", text)
    judged = {d for rule in policy.rules for d in rule.directions}
    if policy.turns is Turns.ALL and Direction.INPUT not in judged:
        yield Remark("input.turns", "no rule looks at input; remove 'input:' or add a rule")
