"""Decisions as files for other programs: JSONL and Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from guardrail.audit.record import COLUMNS
from guardrail.audit.seal import Sealer
from guardrail.errors import SettingsError

__all__ = ["opened", "shown_time", "write_jsonl", "write_lines", "write_parquet"]

ROW_GROUP: Final = 10_000
_INSTALL: Final = "Parquet needs the pyarrow package: pip install 'guardrail[parquet]'"
_WHOLE: Final = frozenset({"checks", "scanned_chars", "total_chars", "tokens"})
_REAL: Final = frozenset({"probability", "threshold", "check_ms", "total_ms", "held_ms"})
_TRUTH: Final = frozenset({"final", "enforced", "review"})


def shown_time(seconds: float) -> str:
    """Return seconds since 1970 as people read them: ISO 8601, UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def opened(found: Mapping[str, Any], sealer: Sealer) -> dict[str, Any]:
    """Return a decision fit for people: its time in ISO 8601 and its texts decrypted.

    Args:
        found: The decision as the store returns it.
        sealer: Opens its texts; without the key they stay as they are stored.
    """
    shown = dict(found)
    shown["time"] = shown_time(found["time"])
    form = str(found["text_form"])
    for name in ("text", "prompt"):
        clear = sealer.open(found[name], form)
        if clear is not None and form == "encrypted":
            shown["text_form"] = "plain"
        shown[name] = found[name] if clear is None else clear
    return shown


def write_jsonl(decisions: Iterable[Mapping[str, Any]], out: Path, sealer: Sealer) -> int:
    """Write one JSON object a line.

    Args:
        decisions: What to write.
        out: The file, which is replaced.
        sealer: Opens texts.

    Returns:
        How many there were.

    Raises:
        SettingsError: The file cannot be written.
    """
    return write_lines((opened(found, sealer) for found in decisions), out)


def write_lines(rows: Iterable[Mapping[str, Any]], out: Path) -> int:
    """Write rows as JSONL.

    Args:
        rows: What to write.
        out: The file, which is replaced.

    Returns:
        How many there were.

    Raises:
        SettingsError: The file cannot be written.
    """
    count = 0
    try:
        with out.open("w", encoding="utf-8") as lines:
            for row in rows:
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
    except OSError as error:
        raise SettingsError(f"--out: {out}: {error.strerror or error}") from error
    return count


def write_parquet(decisions: Iterable[Mapping[str, Any]], out: Path, sealer: Sealer) -> int:
    """Write a Parquet file; what has no column of its own is JSON in ``detail``.

    Args:
        decisions: What to write.
        out: The file, which is replaced.
        sealer: Opens texts.

    Returns:
        How many there were.

    Raises:
        SettingsError: The file cannot be written, or pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SettingsError(_INSTALL) from error
    schema = pa.schema([(name, _arrow_type(pa, name)) for name in COLUMNS])
    count = 0
    try:
        with pq.ParquetWriter(out, schema) as writer:
            for group in _groups(decisions, sealer):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                count += len(group)
    except OSError as error:
        raise SettingsError(f"--out: {out}: {error.strerror or error}") from error
    return count


def _groups(
    decisions: Iterable[Mapping[str, Any]], sealer: Sealer
) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for found in decisions:
        detail = json.dumps(found["detail"], separators=(",", ":"))
        moment = datetime.fromtimestamp(found["time"], UTC)
        group.append({**opened(found, sealer), "time": moment, "detail": detail})
        if len(group) == ROW_GROUP:
            yield group
            group = []
    if group:
        yield group


def _arrow_type(pa: Any, name: str) -> Any:
    if name == "time":
        return pa.timestamp("us", tz="UTC")
    if name == "categories":
        return pa.list_(pa.string())
    if name in _TRUTH:
        return pa.bool_()
    if name in _WHOLE:
        return pa.int64()
    return pa.float64() if name in _REAL else pa.string()
