"""Fits an own calibration to a scored table and measures, by cross-validation, what it brings.

What is reported of a calibration is measured on rows that it was not fitted on: an in-sample gain
is none. The map that is saved is fitted on all rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.recalibration import OutputMap, Recalibration
from guardrail.classifier.refit import Labels, fit_map, predict
from guardrail.classifier.rubrics import same_text
from guardrail.classifier.targets import Scored
from guardrail.errors import DataError
from guardrail.evaluate import metrics
from guardrail.evaluate.metrics import Interval
from guardrail.evaluate.report import Table, labelled, measurable, plain, slices, spread
from guardrail.types import UNSAFE

__all__ = ["Calibrated", "Change", "calibrate", "changes_table", "folds_of"]

MEASURES: Final[dict[str, metrics.Measure]] = {
    "ece": metrics.ece,
    "brier": metrics.brier,
    "log_loss": metrics.log_loss,
}
MOST_KEPT: Final = 20_000
"""Scores of one output that are kept in the file, for targets."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a calibration does to one slice, on rows that it was not fitted on.

    Args:
        slice: Name of the slice; see `guardrail.evaluate.report.slices`.
        output: Which output.
        method: How it is calibrated.
        rows: Labelled rows.
        positives: Those that are positive.
        before: By measure (`ece`, `brier`, `log_loss`), of the classifier as it came.
        after: The same, cross-validated.
        change: After less before, with a paired interval: below 0 is better.
    """

    slice: str
    output: str
    method: str
    rows: int
    positives: int
    before: dict[str, Interval]
    after: dict[str, Interval]
    change: dict[str, Interval]

    @property
    def shown(self) -> bool:
        """Whether the log loss fell by more than chance explains."""
        return self.change["log_loss"].high < 0


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """A fitted calibration and what is known of it.

    Args:
        recalibration: The calibration, fitted on all rows.
        changes: What it brings, slice by slice, overall first.
        after: float64 (n, outputs), the table's probabilities, each recalibrated by a fit that
            had not seen its row.
    """

    recalibration: Recalibration
    changes: tuple[Change, ...]
    after: NDArray[np.float64]


def folds_of(texts: Sequence[str], labels: Sequence[Any], folds: int) -> NDArray[np.int64]:
    """Deal rows into folds: equal texts into one, classes evenly, the same way each time.

    Args:
        texts: The texts.
        labels: A label of each, by which it is dealt.
        folds: How many.

    Returns:
        int64 (n,), the fold of each row.
    """
    keys = [hashlib.sha256(same_text(t).encode("utf-8", "replace")).digest() for t in texts]
    first: dict[bytes, str] = {}
    for key, label in zip(keys, labels, strict=True):
        first.setdefault(key, str(label))
    dealt = sorted(first, key=lambda key: (first[key], key))
    fold = {key: n % folds for n, key in enumerate(dealt)}
    return np.array([fold[key] for key in keys], dtype=np.int64)


def calibrate(
    table: Table,
    folds: NDArray[np.int64],
    model: str,
    *,
    method: str | None = None,
    rounds: int = 300,
) -> Calibrated:
    """Fit a calibration to every output that has labels of both classes.

    Args:
        table: Scored and labelled texts, with their lengths.
        folds: int64 (n,), from `folds_of`.
        model: ``model_id`` of the classifier that scored them.
        method: How, see `guardrail.classifier.refit.METHODS`; None for what the labels support.
        rounds: Bootstrap resamples.

    Raises:
        DataError: No output has labels of both classes.
    """
    after = table.probabilities.copy()
    maps: dict[str, OutputMap] = {}
    kept: dict[str, Scored] = {}
    everything = np.ones(len(table.roles), dtype=bool)
    for column, output in enumerate(table.outputs):
        known, labels = labelled(table, output, everything)
        if not 0 < float(labels.sum()) < len(labels):
            continue
        data = _labels(table, known, column)
        maps[output] = fit_map(data, method)
        if maps[output].method != "none":
            after[known, column] = _cross_fitted(data, folds[known], method)
        kept[output] = _kept(after[known, column], labels)
    if not maps:
        raise DataError(
            "the data have no output with labels of both classes; give rows that violate and "
            "rows that do not"
        )
    changes = tuple(_changes(table, after, maps, rounds))
    report = {"rows": len(table.roles), "changes": plain([asdict(one) for one in changes])}
    return Calibrated(Recalibration(model, maps, kept, report), changes, after)


def _labels(table: Table, known: NDArray[np.bool_], column: int) -> Labels:
    rows = np.nonzero(known)[0]
    return Labels.of(
        table.probabilities[rows, column],
        table.labels[rows, column],
        [table.roles[n] for n in rows],
        [table.lengths[n] for n in rows],
    )


def _cross_fitted(
    data: Labels, folds: NDArray[np.int64], method: str | None
) -> NDArray[np.float64]:
    result = np.zeros(len(data.labels))
    for fold in np.unique(folds):
        held = folds == fold
        result[held] = predict(fit_map(data.rows(~held), method), data.rows(held))
    return result


def _kept(chances: NDArray[np.float64], labels: NDArray[np.float64]) -> Scored:
    every = -(-len(chances) // MOST_KEPT)
    chances, labels = chances[::every], labels[::every]
    return Scored(chances[labels == 1], chances[labels == 0], "your calibration")


def _changes(
    table: Table, after: NDArray[np.float64], maps: dict[str, OutputMap], rounds: int
) -> list[Change]:
    found = []
    for name, output, rows in slices(table):
        known, labels = labelled(table, output, rows)
        whole = name == "overall" or name == f"category:{output}"
        both = 0 < float(labels.sum()) < len(labels)
        if output not in maps or not (measurable(labels) or (whole and both)):
            continue
        column = table.outputs.index(output)
        first, second = table.probabilities[known, column], after[known, column]
        found.append(
            Change(
                slice=name,
                output=output,
                method=maps[output].method,
                rows=len(labels),
                positives=int(labels.sum()),
                before=_measured(labels, first, rounds),
                after=_measured(labels, second, rounds),
                change={
                    key: metrics.paired(one, labels, first, second, rounds=rounds)
                    for key, one in MEASURES.items()
                },
            )
        )
    return found


def _measured(
    labels: NDArray[np.float64], chances: NDArray[np.float64], rounds: int
) -> dict[str, Interval]:
    return {
        key: metrics.bootstrap(one, labels, chances, rounds=rounds) for key, one in MEASURES.items()
    }


def changes_table(changes: Sequence[Change]) -> str:
    """Return changes as a Markdown table; a star marks what is more than chance."""
    lines = [
        "| slice | rows | positive | method | ECE before | after | Brier before | after "
        "| log loss before | after | change of log loss |",
        "|---|---:|---:|---|---:|---|---:|---|---:|---|---|",
    ]
    for c in changes:
        cells = " | ".join(
            f"{c.before[k].value:.3f} | {spread(c.after[k])}" for k in ("ece", "brier", "log_loss")
        )
        name = c.slice if c.output == UNSAFE or c.slice.startswith("category") else c.output
        mark = " *" if c.shown else ""
        lines.append(
            f"| {name} | {c.rows:,} | {c.positives:,} | {c.method} | {cells} "
            f"| {spread(c.change['log_loss'], '+')}{mark} |"
        )
    return "\n".join(lines) + "\n"
