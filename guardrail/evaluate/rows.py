"""Reads rows of labelled text from JSONL files, plain or gzipped."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrail.errors import DataError
from guardrail.taxonomy import CATEGORIES, KEYS, Family

__all__ = ["HAZARDS", "Row", "read_rows"]

HAZARDS = tuple(k for k in KEYS if CATEGORIES[k].family is Family.HAZARD)
"""The keys that a text labelled harmless overall does not violate either."""


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled row of a data file, in the format that ``docs`` describe."""

    id: str
    source: str
    license: str
    role: str
    text: str
    prompt: str | None
    unsafe: int | None
    categories: tuple[str, ...]
    known: tuple[str, ...]
    weak: tuple[str, ...]
    split: str
    lang: str


def _parse(raw: dict[str, Any]) -> Row:
    return Row(
        id=str(raw["id"]),
        source=str(raw["source"]),
        license=str(raw.get("license") or "unstated"),
        role=str(raw["role"]),
        text=str(raw["text"]),
        prompt=raw.get("prompt"),
        unsafe=raw["unsafe"],
        categories=tuple(raw.get("categories") or ()),
        known=tuple(raw.get("categories_known") or ()),
        weak=tuple(raw.get("weak_categories") or ()),
        split=str(raw.get("split") or "train"),
        lang=str(raw.get("lang") or "en"),
    )


def read_rows(path: Path, on_line: Callable[[], None] | None = None) -> Iterator[Row]:
    """Read labelled rows from a JSONL file, plain or gzipped.

    Args:
        path: The file.
        on_line: Called after each line, for a progress bar.

    Yields:
        The rows in file order.

    Raises:
        DataError: The file is missing, or a line is not a row; names file and line.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield _parse(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    fix = "each line is an object with id, source, role, text and unsafe"
                    raise DataError(f"{path}:{number}: {error!r}; {fix}") from error
                if on_line is not None:
                    on_line()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; name an existing file") from error
