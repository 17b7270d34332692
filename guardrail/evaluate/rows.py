"""Reads rows of labelled text from JSONL files, plain or gzipped."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrail.errors import DataError
from guardrail.taxonomy import CATEGORIES, KEYS, Family
from guardrail.types import Role

__all__ = ["HAZARDS", "Row", "parse_row", "read_rows"]

_WRONG = (ValueError, KeyError, TypeError, AttributeError, RecursionError)

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


def parse_row(raw: Mapping[str, Any], source: str, number: int, split: str = "train") -> Row:
    """Return the row of a record; only ``text`` and ``unsafe`` must be there.

    Args:
        raw: The record.
        source: Source of a row that names none.
        number: Its line, the id of a row that has none.
        split: Split of a row that names none.

    Raises:
        ValueError: A field has no value that it may have.
        KeyError: ``text`` or ``unsafe`` is missing.
    """
    unsafe, prompt = raw["unsafe"], raw.get("prompt")
    if not isinstance(raw["text"], str) or not (prompt is None or isinstance(prompt, str)):
        raise ValueError("text and prompt must be text")
    if unsafe not in (0, 1, None):
        raise ValueError(f"unsafe is {unsafe!r}; it must be 1, 0 or null")
    return Row(
        id=str(raw.get("id", number)),
        source=str(raw.get("source") or source),
        license=str(raw.get("license") or "unstated"),
        role=str(Role(raw.get("role") or "user")),
        text=raw["text"],
        prompt=prompt,
        unsafe=None if unsafe is None else int(unsafe),
        categories=_names(raw, "categories"),
        known=_names(raw, "categories_known"),
        weak=_names(raw, "weak_categories"),
        split=str(raw.get("split") or split),
        lang=str(raw.get("lang") or "en"),
    )


def _names(raw: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """Return a list of names; a single name in its place would be taken for its letters."""
    found = raw.get(field) or ()
    if not isinstance(found, list | tuple) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{field} must be a list of names")
    return tuple(found)


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
                    yield parse_row(json.loads(line), path.name.split(".")[0], number)
                except _WRONG as error:
                    fix = 'each line is an object with "text" and "unsafe" (1, 0 or null)'
                    raise DataError(f"{path}:{number}: {error!r}; {fix}") from error
                if on_line is not None:
                    on_line()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {cause}; name an existing file in UTF-8") from error
