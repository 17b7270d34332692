"""Reads the records of a data file: JSONL, JSON, CSV, TSV or Parquet, plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from guardrail.errors import DataError

__all__ = ["Record", "read_records"]

Record = tuple[int, Mapping[str, Any]]
"""Line or row number, from 1, and what is there by column."""

MAX_JSON_BYTES: Final = 1 << 30
MAX_FIELD_CHARS: Final = 16 << 20


def read_records(path: Path) -> Iterator[Record]:
    """Read the records of a file.

    Args:
        path: The file, read by its ending: ``.jsonl``, ``.json``, ``.csv``, ``.tsv`` or
            ``.parquet``, all but the last also with ``.gz``; JSONL where it has another.

    Yields:
        Number and columns of each record, in order.

    Raises:
        DataError: The file cannot be read; names file, line and fix.
    """
    suffixes = [s.lower() for s in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = (suffixes[:-1] if packed else suffixes)[-1:] or [""]
    reader = _READERS.get(kind[0], _lines)
    try:
        if reader is None:
            yield from _parquet(path)
            return
        with gzip.open(path) if packed else path.open("rb") as raw:
            yield from reader(raw, path)  # type: ignore[arg-type]
    except (OSError, EOFError, csv.Error, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {cause}; name a readable file in UTF-8") from error


def _lines(raw: IO[bytes], path: Path) -> Iterator[Record]:
    for number, line in enumerate(raw, 1):
        if line.strip():
            yield number, _object(_parsed(line, f"{path}:{number}"), f"{path}:{number}")


def _whole(raw: IO[bytes], path: Path) -> Iterator[Record]:
    data = raw.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise DataError(f"{path}: larger than {MAX_JSON_BYTES:,} bytes; convert it to JSONL")
    found = _parsed(data, str(path))
    if not isinstance(found, list):
        raise DataError(f"{path}: not a JSON array of objects; give that, or JSONL")
    for number, one in enumerate(found, 1):
        yield number, _object(one, f"{path}: element {number}")


def _table(raw: IO[bytes], path: Path, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(MAX_FIELD_CHARS)
    with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, delimiter=delimiter)
        for one in reader:
            if None in one or None in one.values():
                raise DataError(
                    f"{path}:{reader.line_num}: not as many fields as the header has; "
                    "check its quotes and delimiter"
                )
            yield reader.line_num, one


def _parquet(path: Path) -> Iterator[Record]:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise DataError(
            f"{path}: reading Parquet needs pyarrow: pip install 'guardrail[parquet]'"
        ) from error
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(1024):
            for one in batch.to_pylist():
                number += 1
                yield number, one
    except ValueError as error:  # pyarrow's ArrowInvalid
        raise DataError(f"{path}: not Parquet ({error}); fetch it anew") from error


def _parsed(data: bytes, place: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}); check how the file was written") from error


def _object(found: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise DataError(f"{place}: not an object with columns but {type(found).__name__}")
    return found


_READERS: Final[Mapping[str, Callable[[IO[bytes], Path], Iterator[Record]] | None]] = {
    ".json": _whole,
    ".csv": lambda raw, path: _table(raw, path, ","),
    ".tsv": lambda raw, path: _table(raw, path, "\t"),
    ".parquet": None,
}
