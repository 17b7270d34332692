"""Measures a scored table slice by slice, compares two models, and writes it down."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.recalibration import LENGTH_EDGES, length_bucket
from guardrail.evaluate import metrics
from guardrail.evaluate.metrics import Interval
from guardrail.types import UNSAFE

__all__ = [
    "Measured",
    "Table",
    "as_json",
    "compare",
    "comparison",
    "labelled",
    "markdown",
    "measurable",
    "measure",
    "measure_slice",
    "plain",
    "slices",
    "spread",
    "write_json",
]

LEAST_ROWS = 20
"""Slices with fewer rows say nothing and are left out."""

LENGTHS = tuple(
    f"under {high}" if low == 0 else f"{low} and more" if high is None else f"{low}–{high - 1}"
    for low, high in zip((0, *LENGTH_EDGES), (*LENGTH_EDGES, None), strict=True)
)
"""Names of the length buckets, in characters."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Scored and labelled texts.

    Args:
        outputs: Names of the columns.
        probabilities: float64 (n, outputs), calibrated.
        labels: float64 (n, outputs): 1, 0, or NaN where unknown.
        roles: Role of each text.
        sources: Source of each text.
        lengths: Characters of each text; empty where unknown.
        languages: Language of each text; empty where unknown.
    """

    outputs: tuple[str, ...]
    probabilities: NDArray[np.float64]
    labels: NDArray[np.float64]
    roles: tuple[str, ...]
    sources: tuple[str, ...]
    lengths: tuple[int, ...] = ()
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """Measures of one output on one slice.

    Args:
        slice: ``overall``, ``role:user``, ``source:x``, ``length:80–319``, ``language:de`` or
            ``category:hate``.
        output: Which output is measured.
        rows: Labelled rows.
        positives: Those that are positive.
        auprc: Average precision.
        auroc: Area under the ROC curve.
        recall_at_1_fpr: Recall at a false-positive rate of at most 1%.
        flagged: Share of rows at or above the threshold: of a slice without negatives its
            recall, of one without positives its false-positive rate.
        f1: F1 at the threshold that was asked for.
        best_f1: Highest F1 over thresholds.
        ece: Expected calibration error.
        brier: Brier score.
        best_threshold: The threshold that gives the highest F1.
        threshold: The threshold of ``f1`` and ``flagged``.
    """

    slice: str
    output: str
    rows: int
    positives: int
    auprc: Interval
    auroc: Interval
    recall_at_1_fpr: Interval
    flagged: Interval
    f1: Interval
    best_f1: Interval
    ece: Interval
    brier: Interval
    best_threshold: float
    threshold: float


def slices(table: Table) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield name, output and row mask of every slice of a table.

    The overall output is sliced by role, source, length and language; each category stands for
    itself, and once more for each role where its labels allow.
    """
    everything = np.ones(len(table.roles), dtype=bool)
    roles = np.array(table.roles)
    yield "overall", UNSAFE, everything
    buckets = [length_bucket(n) for n in table.lengths]
    kinds: tuple[tuple[str, Sequence[Any]], ...] = (
        ("role", table.roles), ("source", table.sources), ("length", buckets),
        ("language", table.languages),
    )  # fmt: skip
    for kind, values in kinds:
        if kind in ("length", "language") and len(set(values)) < 2:
            continue  # nothing that "overall" does not say
        for value in sorted(set(values)):
            shown = LENGTHS[value] if kind == "length" else value
            yield f"{kind}:{shown}", UNSAFE, np.array(values) == value
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
    threshold: float = 0.5,
) -> Measured:
    """Measure one output on the rows of one slice.

    Args:
        name: Name of the slice.
        output: Name of the output.
        labels: float64 (n,), 0 or 1.
        probabilities: float64 (n,).
        rounds: Bootstrap resamples; 0 for none.
        threshold: Where F1 is measured.
    """

    def of(one: metrics.Measure) -> Interval:
        return metrics.bootstrap(one, labels, probabilities, rounds=rounds)

    return Measured(
        slice=name,
        output=output,
        rows=len(labels),
        positives=int(labels.sum()),
        auprc=of(metrics.average_precision),
        auroc=of(metrics.roc_auc),
        recall_at_1_fpr=of(metrics.recall_at_fpr),
        flagged=of(lambda _, p: float(np.mean(p >= threshold))),
        f1=of(lambda y, p: metrics.f1_at(y, p, threshold)),
        best_f1=of(lambda y, p: metrics.best_f1(y, p)[0]),
        ece=of(metrics.ece),
        brier=of(metrics.brier),
        best_threshold=metrics.best_f1(labels, probabilities)[1],
        threshold=threshold,
    )


def labelled(
    table: Table, output: str, rows: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which rows of a slice are labelled, bool (n,), and their labels, float64."""
    column = table.labels[:, table.outputs.index(output)]
    known = rows & ~np.isnan(column)
    return known, column[known]


def measurable(labels: NDArray[np.float64]) -> bool:
    """Whether a slice has enough rows, and both classes."""
    return len(labels) >= LEAST_ROWS and 0 < float(labels.sum()) < len(labels)


def measure(
    table: Table, rounds: int = 100, threshold: float = 0.5, *, one_class: bool = False
) -> list[Measured]:
    """Measure every slice of a table that has enough rows of both classes.

    Args:
        table: Scored and labelled texts.
        rounds: Bootstrap resamples; 0 for none.
        threshold: Where F1 is measured.
        one_class: Whether sources, and the whole, are measured as well where they have one
            class only, as red-team sets and tests of over-blocking do.
    """
    results = []
    for name, output, rows in slices(table):
        known, labels = labelled(table, output, rows)
        values = table.probabilities[known, table.outputs.index(output)]
        alone = one_class and len(labels) > 0 and name.startswith(("overall", "source:"))
        if measurable(labels) or alone:
            results.append(measure_slice(name, output, labels, values, rounds, threshold))
    return results


def compare(
    table: Table, other: NDArray[np.float64], threshold: float = 0.5, rounds: int = 0
) -> list[dict[str, Any]]:
    """Compare two models on the same rows, slice by slice.

    Args:
        table: Rows as the first model scored them.
        other: float64 (n, outputs), as the second did.
        threshold: Where a verdict flips.
        rounds: Paired bootstrap resamples; 0 for no intervals.

    Returns:
        For each slice both AUPRCs; the differences (second minus first) of AUPRC, of recall at
        1% FPR and of ECE, with paired intervals; and the share of rows whose verdict differs.
    """
    found = []
    for name, output, rows in slices(table):
        known, labels = labelled(table, output, rows)
        if not measurable(labels):
            continue
        column = table.outputs.index(output)
        first, second = table.probabilities[known, column], other[known, column]
        everyone = table.probabilities[rows, column], other[rows, column]
        found.append(
            {
                "slice": name,
                "rows": len(labels),
                "positives": int(labels.sum()),
                "auprc_a": metrics.average_precision(labels, first),
                "auprc_b": metrics.average_precision(labels, second),
                **_differences(labels, first, second, rounds),
                "flipped": float(np.mean((everyone[0] >= threshold) != (everyone[1] >= threshold))),
            }
        )
    return found


def _differences(
    labels: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    rounds: int,
) -> dict[str, float]:
    named: tuple[tuple[str, metrics.Measure], ...] = (
        ("difference", metrics.average_precision),
        ("recall_difference", metrics.recall_at_fpr),
        ("ece_difference", metrics.ece),
    )
    found = {}
    for name, one in named:
        gap = metrics.paired(one, labels, first, second, rounds=rounds)
        found[name] = gap.value
        if rounds:
            found |= {f"{name}_low": gap.low, f"{name}_high": gap.high}
    return found


def plain(value: Any) -> Any:
    """Return a value as JSON takes it: floats to five digits, NaN as null."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 5)
    return value


def as_json(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return measures as JSON objects, NaN as null."""
    return [plain(asdict(m)) for m in measured]


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file with a final newline."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def spread(value: Interval, sign: str = "") -> str:
    """Return a value with its interval in brackets, three digits each; a dash for NaN.

    Args:
        value: What to show.
        sign: ``+`` to show the sign of each number, as of a difference.
    """
    if np.isnan(value.value):
        return "–"
    if np.isnan(value.low):
        return f"{value.value:{sign}.3f}"
    dash = " to " if sign else "–"
    return f"{value.value:{sign}.3f} ({value.low:{sign}.3f}{dash}{value.high:{sign}.3f})"


def markdown(measured: Sequence[Measured]) -> str:
    """Return measures as a Markdown table, intervals in brackets."""
    at = measured[0].threshold if measured else 0.5
    lines = [
        "| slice | rows | positive | AUPRC | recall at 1% FPR | AUROC "
        f"| flagged at {at:g} | F1 there | best F1 | ECE | Brier |",
        "|---|---:|---:|---|---|---|---|---|---|---|---|",
    ]
    for m in measured:
        cells = (
            m.auprc, m.recall_at_1_fpr, m.auroc, m.flagged, m.f1, m.best_f1, m.ece, m.brier
        )  # fmt: skip
        shown = " | ".join(spread(cell) for cell in cells)
        lines.append(f"| {m.slice} | {m.rows:,} | {m.positives:,} | {shown} |")
    return "\n".join(lines) + "\n"


def comparison(found: Sequence[dict[str, Any]], threshold: float = 0.5) -> str:
    """Return what `compare` found as a Markdown table."""

    def change(one: dict[str, Any], name: str) -> str:
        bounds = (one.get(f"{name}_{side}", np.nan) for side in ("low", "high"))
        return spread(Interval(one[name], *bounds), "+")

    lines = [
        "| slice | rows | AUPRC | of the second | change of AUPRC | of recall at 1% FPR | of ECE "
        f"| flipped at {threshold:g} |",
        "|---|---:|---:|---:|---|---|---|---:|",
    ]
    lines.extend(
        f"| {one['slice']} | {one['rows']:,} | {one['auprc_a']:.3f} | {one['auprc_b']:.3f} "
        f"| {change(one, 'difference')} | {change(one, 'recall_difference')} "
        f"| {change(one, 'ece_difference')} | {one['flipped']:.3f} |"
        for one in found
    )
    return "\n".join(lines) + "\n"
