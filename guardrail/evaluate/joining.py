"""Joins labelled rows with probabilities that some classifier gave them before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from guardrail.errors import DataError
from guardrail.evaluate.records import read_records
from guardrail.evaluate.report import Table
from guardrail.evaluate.rows import Row
from guardrail.evaluate.run import as_table
from guardrail.types import UNSAFE

__all__ = ["join_scores"]


def join_scores(rows: Sequence[Row], path: Path) -> Table:
    """Put a file of probabilities beside labelled rows, by id.

    Args:
        rows: Labelled rows.
        path: JSONL of ``{"id", "unsafe": p, "categories": {key: p}}``, as ``guardrail score``
            and any other classifier may write it; ``unsafe`` or ``categories`` may be missing.

    Returns:
        The rows with their probabilities; the outputs are those of the first line.

    Raises:
        DataError: A line is not of this form, or a row has no line.
    """
    found: dict[str, dict[str, float]] = {}
    outputs: tuple[str, ...] = ()
    for number, record in read_records(path):
        chances = _chances(record, f"{path}:{number}")
        outputs = outputs or tuple(chances)
        if set(chances) != set(outputs):
            raise DataError(f"{path}:{number}: other outputs than the first line has")
        found[str(record.get("id"))] = chances
    lacking = [row.id for row in rows if row.id not in found]
    if lacking:
        raise DataError(
            f"{path}: no line with id {lacking[0]!r} and {len(lacking) - 1:,} more of the labelled "
            "rows; score the same file, with the same ids"
        )
    values = np.array([[found[row.id][name] for name in outputs] for row in rows])
    return as_table(rows, outputs, values.reshape(len(rows), len(outputs)))


def _chances(record: Mapping[str, Any], place: str) -> dict[str, float]:
    chances = {}
    given = record.get("categories") or {}
    if not isinstance(given, Mapping):
        raise DataError(f"{place}: categories is {type(given).__name__}, not an object")
    raw = dict(given)
    if UNSAFE in record:
        raw = {UNSAFE: record[UNSAFE], **raw}
    for key, value in raw.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise DataError(f"{place}: {key} is {value!r}, no probability from 0 to 1")
        chances[str(key)] = float(value)
    if not chances:
        raise DataError(f'{place}: has neither "unsafe" nor "categories"; see `guardrail score`')
    return chances
