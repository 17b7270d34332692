"""Measures a scored table slice by slice, compares two models, and writes it down."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.evaluate import metrics
from guardrail.evaluate.metrics import Interval
from guardrail.types import UNSAFE

__all__ = [
    "Measured",
    "Table",
    "as_json",
    "compare",
    "markdown",
    "measure",
    "measure_slice",
    "slices",
    "write_json",
]

LEAST_ROWS = 20
"""Slices with fewer rows say nothing and are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Scored and labelled texts.

    Args:
        outputs: Names of the columns.
        probabilities: float64 (n, outputs), calibrated.
        labels: float64 (n, outputs): 1, 0, or NaN where unknown.
        roles: Role of each text.
        sources: Source of each text.
    """

    outputs: tuple[str, ...]
    probabilities: NDArray[np.float64]
    labels: NDArray[np.float64]
    roles: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """Measures of one output on one slice.

    Args:
        slice: ``overall``, ``role:user``, ``source:x`` or ``category:hate``.
        output: Which output is measured.
        rows: Labelled rows.
        positives: Those that are positive.
        auprc: Average precision, with its interval.
        recall_at_1_fpr: Recall at a false-positive rate of at most 1%, with its interval.
        auroc: Area under the ROC curve.
        best_f1: Highest F1 over thresholds.
        best_threshold: The threshold that gives it.
        f1_at_half: F1 at a threshold of 0.5.
        ece: Expected calibration error.
        brier: Brier score.
    """

    slice: str
    output: str
    rows: int
    positives: int
    auprc: Interval
    recall_at_1_fpr: Interval
    auroc: float
    best_f1: float
    best_threshold: float
    f1_at_half: float
    ece: float
    brier: float


def slices(table: Table) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield name, output and row mask of every slice of a table.

    The overall output is sliced by role and source; each category stands for itself, and once
    more for each role where its labels allow.
    """
    everything = np.ones(len(table.roles), dtype=bool)
    roles, sources = np.array(table.roles), np.array(table.sources)
    yield "overall", UNSAFE, everything
    for role in sorted(set(table.roles)):
        yield f"role:{role}", UNSAFE, roles == role
    for source in sorted(set(table.sources)):
        yield f"source:{source}", UNSAFE, sources == source
    for key in table.outputs:
        if key == UNSAFE:
            continue
        yield f"category:{key}", key, everything
        for role in sorted(set(table.roles)):
            yield f"category:{key}/role:{role}", key, roles == role


def measure_slice(
    name: str,
    output: str,
    labels: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    rounds: int = 0,
) -> Measured:
    """Measure one output on the rows of one slice.

    Args:
        name: Name of the slice.
        output: Name of the output.
        labels: float64 (n,), 0 or 1.
        probabilities: float64 (n,).
        rounds: Bootstrap resamples; 0 for none.
    """
    f1, threshold = metrics.best_f1(labels, probabilities)
    return Measured(
        slice=name,
        output=output,
        rows=len(labels),
        positives=int(labels.sum()),
        auprc=metrics.bootstrap(metrics.average_precision, labels, probabilities, rounds=rounds),
        recall_at_1_fpr=metrics.bootstrap(
            metrics.recall_at_fpr, labels, probabilities, rounds=rounds
        ),
        auroc=metrics.roc_auc(labels, probabilities),
        best_f1=f1,
        best_threshold=threshold,
        f1_at_half=metrics.f1_at(labels, probabilities, 0.5),
        ece=metrics.ece(labels, probabilities),
        brier=metrics.brier(labels, probabilities),
    )


def measure(table: Table, rounds: int = 100) -> list[Measured]:
    """Measure every slice of a table that has enough rows of both classes.

    Args:
        table: Scored and labelled texts.
        rounds: Bootstrap resamples; 0 for none.
    """
    results = []
    for name, output, rows in slices(table):
        column = table.outputs.index(output)
        labels = table.labels[rows, column]
        known = ~np.isnan(labels)
        labels, values = labels[known], table.probabilities[rows, column][known]
        if len(labels) >= LEAST_ROWS and 0 < labels.sum() < len(labels):
            results.append(measure_slice(name, output, labels, values, rounds))
    return results


def compare(
    table: Table, other: NDArray[np.float64], threshold: float = 0.5
) -> list[dict[str, Any]]:
    """Compare two models on the same rows, slice by slice.

    Args:
        table: Rows as the first model scored them.
        other: float64 (n, outputs), as the second did.
        threshold: Where a verdict flips.

    Returns:
        For each slice both AUPRCs, their difference (second minus first) and the share of
        rows whose verdict differs.
    """
    second = Table(table.outputs, other, table.labels, table.roles, table.sources)
    after = {(m.slice, m.output): m for m in measure(second, rounds=0)}
    flips = (table.probabilities >= threshold) != (other >= threshold)
    masks = {(name, output): rows for name, output, rows in slices(table)}
    return [
        {
            "slice": m.slice,
            "rows": m.rows,
            "positives": m.positives,
            "auprc_a": m.auprc.value,
            "auprc_b": after[m.slice, m.output].auprc.value,
            "difference": after[m.slice, m.output].auprc.value - m.auprc.value,
            "flipped": float(flips[masks[m.slice, m.output], table.outputs.index(m.output)].mean()),
        }
        for m in measure(table, rounds=0)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 5)
    return value


def as_json(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return measures as JSON objects, NaN as null."""
    return [_plain(asdict(m)) for m in measured]


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file with a final newline."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _cell(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _spread(value: Interval) -> str:
    if np.isnan(value.low):
        return _cell(value.value)
    return f"{_cell(value.value)} ({_cell(value.low)}–{_cell(value.high)})"


def markdown(measured: Sequence[Measured]) -> str:
    """Return measures as a Markdown table, intervals in brackets."""
    lines = [
        "| slice | rows | positive | AUPRC | recall at 1% FPR | AUROC | best F1 | ECE | Brier |",
        "|---|---:|---:|---|---|---:|---:|---:|---:|",
    ]
    lines.extend(
        f"| {m.slice} | {m.rows:,} | {m.positives:,} | {_spread(m.auprc)} "
        f"| {_spread(m.recall_at_1_fpr)} | {_cell(m.auroc)} | {_cell(m.best_f1)} "
        f"| {_cell(m.ece)} | {_cell(m.brier)} |"
        for m in measured
    )
    return "\n".join(lines) + "\n"
