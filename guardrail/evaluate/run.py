"""Scores labelled data files with a bundle: rows in, a `Table` out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.base import Classifier, Sample
from guardrail.evaluate.report import Table
from guardrail.evaluate.rows import HAZARDS, Row
from guardrail.types import UNSAFE, Role

__all__ = ["as_sample", "as_table", "labels_of", "score_rows"]

CHUNK = 256


def as_sample(row: Row) -> Sample:
    """Return what the classifier is given for a row."""
    return Sample(row.text, Role(row.role), row.prompt)


def labels_of(row: Row, outputs: Sequence[str]) -> list[float]:
    """Return a row's labels, NaN where unknown.

    A text that is harmless overall is negative for the fourteen hazards as well.
    """
    values = dict.fromkeys(row.known, 0.0)
    if row.unsafe == 0:
        values |= dict.fromkeys(HAZARDS, 0.0)
    values |= dict.fromkeys(row.categories, 1.0)
    if row.unsafe is not None:
        values[UNSAFE] = float(row.unsafe)
    return [values.get(name, float("nan")) for name in outputs]


def score_rows(
    classifier: Classifier,
    rows: Iterable[Row],
    on_done: Callable[[int], None] | None = None,
) -> Table:
    """Score labelled rows.

    Args:
        classifier: What to measure.
        rows: The rows.
        on_done: Called with the number of rows of each chunk.

    Returns:
        Probabilities and labels of every row.
    """
    outputs = (UNSAFE, *classifier.categories)
    kept = list(rows)
    probabilities = np.zeros((len(kept), len(outputs)))
    for start in range(0, len(kept), CHUNK):
        part = kept[start : start + CHUNK]
        scores = classifier.score([as_sample(row) for row in part])
        for number, one in enumerate(scores, start):
            probabilities[number] = [one.categories[name] for name in outputs]
        if on_done is not None:
            on_done(len(part))
    return as_table(kept, outputs, probabilities)


def as_table(
    rows: Sequence[Row], outputs: Sequence[str], probabilities: NDArray[np.float64]
) -> Table:
    """Put the probabilities of rows beside their labels.

    Args:
        rows: The rows.
        outputs: Names of the columns.
        probabilities: float64 (rows, outputs).
    """
    labels = np.array([labels_of(row, outputs) for row in rows]).reshape(len(rows), len(outputs))
    return Table(
        tuple(outputs),
        probabilities,
        labels,
        roles=tuple(row.role for row in rows),
        sources=tuple(row.source for row in rows),
        lengths=tuple(len(row.text) for row in rows),
        languages=tuple(row.lang for row in rows),
    )
