"""The texts that a policy is tested on, each judged and held against its label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.base import Sample
from guardrail.classifier.encoder import EncoderClassifier
from guardrail.classifier.heads import fit_policy
from guardrail.classifier.labels import Labelled, read_labels
from guardrail.classifier.prepare import Prepared
from guardrail.classifier.rubrics import Embedder, same_text
from guardrail.escalate import decide_now
from guardrail.policy import Policy, Rule
from guardrail.policy.schema import CATEGORY_KEYS
from guardrail.types import Action, Direction, Role, Scores, Verdict

__all__ = ["Case", "Outcome", "Remembering", "judge", "suite"]

BATCH: Final = 64


class Outcome(StrEnum):
    """What came of one text."""

    PASSED = "passed"
    FAILED = "failed"
    KNOWN_GAP = "known gap"
    CLOSED_GAP = "closed gap"


@dataclass(frozen=True, slots=True)
class Case:
    """One text of a suite and what came of it.

    Args:
        row: The text and its label.
        verdict: What the policy says.
        expected: Whether that is what the label says.
        file: The file that has it; None for an example that only the policy has.
        gap: Why the policy is known to judge it otherwise, or None.
        example: Whether it is an example of a rubric, judged by a head fitted without it.
    """

    row: Labelled
    verdict: Verdict
    expected: bool
    file: Path | None = None
    gap: str | None = None
    example: bool = False

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return f"{self.file.name}:{self.row.line}" if self.file else "examples"

    @property
    def outcome(self) -> Outcome:
        """What came of it."""
        if self.gap is None:
            return Outcome.PASSED if self.expected else Outcome.FAILED
        return Outcome.CLOSED_GAP if self.expected else Outcome.KNOWN_GAP


class Remembering:
    """An encoder that reads a text once, however many policies ask for it.

    Args:
        inner: The encoder.
    """

    def __init__(self, inner: EncoderClassifier) -> None:
        self._inner = inner
        self.bundle = inner.bundle
        self.model_id = inner.model_id
        self.categories = inner.categories
        self._known: dict[Sample, tuple[Scores, NDArray[np.float32]]] = {}
        self._embedded: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 (texts, hidden); see the encoder."""
        new = [text for text in dict.fromkeys(texts) if text not in self._embedded]
        if not texts:
            return self._inner.embed(texts)
        if new:
            self._embedded.update(zip(new, self._inner.embed(new), strict=True))
        return np.stack([self._embedded[text] for text in texts])

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch."""
        return self.score_and_embed(samples)[0]

    def score_and_embed(
        self, samples: Sequence[Sample]
    ) -> tuple[list[Scores], list[NDArray[np.float32]]]:
        """Return scores and, for each sample, float32 (windows, hidden)."""
        new = [s for s in dict.fromkeys(samples) if s not in self._known]
        if new:
            pairs = zip(*self._inner.score_and_embed(new), strict=True)
            self._known.update(zip(new, pairs, strict=True))
        found = [self._known[sample] for sample in samples]
        return [scores for scores, _ in found], [states for _, states in found]


def suite(ready: Prepared, model: object, data: Sequence[str] = ()) -> list[Case]:
    """Judge the examples of a policy, the files under its ``tests:`` and others.

    A row whose text is an example of its category is that example: it is judged once, by a head
    that was fitted without it.

    Args:
        ready: The policy.
        model: The model that it was prepared on.
        data: More labelled JSONL files.

    Returns:
        The cases, examples first.

    Raises:
        DataError: A file cannot be used.
    """
    policy = ready.policy
    rows = _rows(policy, data)
    shown = _examples(policy)
    marked = {_key(row): (row, file) for row, file in rows if _key(row) in shown}
    cases = list(_judge_examples(ready, model, marked))
    for file in dict.fromkeys(file for _, file in rows):
        own = [row for row, f in rows if f == file and _key(row) not in shown]
        for row, verdict in zip(own, judge(ready, own), strict=True):
            gap = row.gap_of(policy.name)
            cases.append(Case(row, verdict, _as_expected(row, verdict), file, gap))
    return cases


Key = tuple[str | None, bool, str]


def _key(row: Labelled) -> Key:
    return row.category, row.violates, same_text(row.text)


def _rows(policy: Policy, data: Sequence[str]) -> list[tuple[Labelled, Path]]:
    folder = Path(policy.file).parent if policy.file else Path()
    named = [*(folder / test for test in policy.tests), *map(Path, data)]
    files = dict.fromkeys(file.resolve() for file in named)
    return [(row, file) for file in files for row in read_labels(file) if _in_scope(policy, row)]


def _in_scope(policy: Policy, row: Labelled) -> bool:
    """Whether a policy judges it: a shared file may have texts for what this one leaves out."""
    if row.category is None:
        return True
    rule = policy.rule(row.category)
    return rule is not None and row.direction in rule.directions


def judge(ready: Prepared, rows: Sequence[Labelled]) -> Iterator[Verdict]:
    """Judge labelled texts.

    Args:
        ready: The policy.
        rows: The texts.

    Yields:
        A verdict for each, in order.
    """
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        for row, scores in zip(part, ready.classifier.score([r.sample for r in part]), strict=True):
            yield decide_now(ready, row.direction, row.sample, scores)


def _examples(policy: Policy) -> set[Key]:
    return {_key(row) for rule in policy.rules for row in _own(rule)}


def _own(rule: Rule) -> list[Labelled]:
    """Return the examples of a rule as labelled texts."""
    role = Role.USER if Direction.INPUT in rule.directions else Role.ASSISTANT
    sides = ((rule.examples.violates, True), (rule.examples.allowed, False))
    return [
        Labelled(text, rule.category, violates, role) for texts, violates in sides for text in texts
    ]


def _judge_examples(
    ready: Prepared, model: object, marked: dict[Key, tuple[Labelled, Path]]
) -> Iterator[Case]:
    """Judge the examples in the policy; those of a rubric as though they were not in it."""
    left_out: dict[str, list[float]] = {}
    if isinstance(model, Embedder):
        for fit in fit_policy(ready.policy, model):
            left_out[fit.head.category] = [*fit.violates, *fit.allowed]
    for rule in ready.policy.rules:
        rows = _own(rule)
        scored = ready.classifier.score([row.sample for row in rows])
        chances: Sequence[float | None] = left_out.get(rule.category) or [None] * len(rows)
        for own, scores, chance in zip(rows, scored, chances, strict=True):
            seen = _without_itself(scores, rule.category, chance)
            verdict = decide_now(ready, own.direction, own.sample, seen)
            row, file = marked.get(_key(own), (own, None))
            gap = row.gap_of(ready.policy.name)
            yield Case(row, verdict, _as_expected(own, verdict), file, gap, example=True)


def _without_itself(scores: Scores, category: str, chance: float | None) -> Scores:
    """Put the leave-one-out probability in place, unless a pattern decides anyway."""
    if chance is None or any(e.category == category for e in scores.evidence):
        return scores
    return replace(scores, categories={**scores.categories, category: float(chance)})


def _as_expected(row: Labelled, verdict: Verdict) -> bool:
    caught = {f.category for f in verdict.findings if f.action is not Action.PASS}
    if row.category is None or row.category in CATEGORY_KEYS:
        return bool(caught) == row.violates
    return (row.category in caught) == row.violates
