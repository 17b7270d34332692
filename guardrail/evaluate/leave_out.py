"""How well a category is told from its definition alone, as if the taxonomy did not have it.

Each category in turn stands for one of an author's own: a head is made from its definition, with
no examples and with a few, and told apart from a backdrop that lacks it. Beside it stands what the
model says of the category by the output that was trained for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.encoder import EncoderClassifier
from guardrail.classifier.rubrics import Backdrop, Head, fit_head
from guardrail.errors import DataError
from guardrail.evaluate.metrics import Interval, average_precision, bootstrap
from guardrail.evaluate.report import spread
from guardrail.evaluate.rows import Row
from guardrail.evaluate.run import as_sample, labels_of
from guardrail.policy import Examples, FailureMode, Rule
from guardrail.taxonomy import CATEGORIES, KEYS
from guardrail.types import Action, Direction, Role

__all__ = ["LeftOut", "leave_one_out", "left_out_table"]

BATCH: Final = 128
LEAST: Final = 10
"""Texts of either kind that must remain beside the examples."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One category, judged from its definition; AUPRC on the same rows.

    Args:
        category: Category key.
        rows: Labelled rows.
        positives: Those that violate.
        trained: By the output that was trained for it.
        rubric: By a head from its definition alone.
        shots: By a head from its definition and a few examples of each kind.
        asked: By the model's own rubric head, where the bundle has one.
        unheard: Whether that head was fitted without this category.
    """

    category: str
    rows: int
    positives: int
    trained: Interval
    rubric: Interval
    shots: Interval
    asked: Interval
    unheard: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """What the encoder made of the rows: probabilities, and states of their windows."""

    outputs: tuple[str, ...]
    chances: Floats
    states: list[NDArray[np.float32]]

    def by(self, head: Head, rows: NDArray[np.intp]) -> Floats:
        each = (self.states[n] for n in rows)
        return np.array([float(head.probability(s).max()) if len(s) else 0.0 for s in each])


def leave_one_out(
    encoder: EncoderClassifier,
    rows: Sequence[Row],
    *,
    shots: int = 8,
    rounds: int = 100,
    seed: int = 0,
    on_done: Callable[[int], None] | None = None,
) -> list[LeftOut]:
    """Measure every category that has enough labels.

    Args:
        encoder: The embedded classifier.
        rows: Labelled rows.
        shots: Examples of each kind, drawn from the rows and not measured on.
        rounds: Bootstrap resamples.
        seed: Seed of the draw.
        on_done: Called with the number of rows read.

    Raises:
        DataError: No category has enough labels.
    """
    labels = np.array([labels_of(row, KEYS) for row in rows])
    enough = (np.stack([labels == 1, labels == 0]).sum(axis=1) >= shots + LEAST).all(axis=0)
    if not enough.any():
        raise DataError(
            f"no category has {shots + LEAST} violating and as many other texts labelled; give "
            "more data, or fewer --shots"
        )
    read = _read(encoder, rows, on_done)
    backdrop = Backdrop.of(encoder)
    asked = _asked(encoder, rows)
    unheard = encoder.bundle.manifest.get("training", {}).get("rubrics_held_out", ())
    rng, found = np.random.default_rng(seed), []

    def of(truth: Floats, scores: NDArray[Any]) -> Interval:
        if np.isnan(scores).any():
            return Interval(float("nan"))
        return bootstrap(average_precision, truth, scores, rounds=rounds)

    for column, key in enumerate(KEYS):
        sides = [rng.permutation(np.nonzero(labels[:, column] == y)[0]) for y in (1, 0)]
        if not enough[column] or key not in read.outputs:
            continue
        given = [tuple(rows[n].text for n in side[:shots]) for side in sides]
        rest = np.concatenate([side[shots:] for side in sides])
        truth = labels[rest, column]
        behind = backdrop.without(key)
        bare = fit_head(_rule(key, Examples()), encoder, behind).head
        shown = fit_head(_rule(key, Examples(*given)), encoder, behind).head
        nothing = np.full(len(rest), np.nan)
        found.append(
            LeftOut(
                category=key,
                rows=len(rest),
                positives=int(truth.sum()),
                trained=of(truth, read.chances[rest, read.outputs.index(key)]),
                rubric=of(truth, read.by(bare, rest)),
                shots=of(truth, read.by(shown, rest)),
                asked=of(truth, nothing if asked is None else asked[rest, column]),
                unheard=key in unheard,
            )
        )
    return found


def _read(
    encoder: EncoderClassifier, rows: Sequence[Row], on_done: Callable[[int], None] | None
) -> _Read:
    outputs = tuple(encoder.categories)
    chances = np.zeros((len(rows), len(outputs)))
    states: list[NDArray[np.float32]] = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        scores, found = encoder.score_and_embed([as_sample(row) for row in part])
        states += found
        for number, one in enumerate(scores, start):
            chances[number] = [one.categories[name] for name in outputs]
        if on_done is not None:
            on_done(len(part))
    return _Read(outputs, chances, states)


def _asked(encoder: EncoderClassifier, rows: Sequence[Row]) -> NDArray[np.float32] | None:
    """Return what the bundle's own rubric head says, float32 (rows, keys), or None."""
    if not encoder.takes_rubrics:
        return None
    rubrics = encoder.embed([CATEGORIES[key].definition for key in KEYS])[:, -1]
    parts = (rows[n : n + BATCH] for n in range(0, len(rows), BATCH))
    return np.concatenate(
        [encoder.rubric_logits([as_sample(row) for row in part], rubrics) for part in parts]
    )


def _rule(key: str, examples: Examples) -> Rule:
    return Rule(
        category=key,
        directions=frozenset(Direction),
        roles=frozenset(Role),
        action=Action.FLAG,
        flag=0.5,
        block=None,
        review=None,
        failure=FailureMode.OPEN,
        message=None,
        rubric=CATEGORIES[key].definition,
        examples=examples,
    )


def left_out_table(found: Sequence[LeftOut], shots: int) -> str:
    """Return the measures as a Markdown table, with their mean."""
    names = ("trained", "rubric", "shots", "asked")
    lines = [
        "| category | rows | positive | AUPRC of its own output | definition alone "
        f"| and {shots} examples of each kind | rubric head (* never heard of it) |",
        "|---|---:|---:|---|---|---|---|",
    ]
    for one in found:
        cells = [spread(getattr(one, name)) for name in names]
        cells[-1] += " *" if one.unheard else ""
        lines.append(f"| {one.category} | {one.rows:,} | {one.positives:,} | {' | '.join(cells)} |")
    means: list[Any] = [np.mean([getattr(one, name).value for one in found]) for name in names]
    lines.append(f"| **mean** | | | {' | '.join(spread(Interval(float(m))) for m in means)} |")
    return "\n".join(lines) + "\n"
