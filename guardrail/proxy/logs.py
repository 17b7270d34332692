"""The log: lines for people, or one JSON object a line for machines.

What is logged never holds text, keys or headers; that is up to the callers. This file only says
how a record is written down.
"""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Final

__all__ = ["FIELDS", "JsonFormatter", "LogFormat", "TextFormatter", "set_up"]

FIELDS: Final = "fields"
"""Name of a record's extra mapping; its items become fields of the JSON object."""

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LogFormat(StrEnum):
    """How a record is written."""

    TEXT = "text"
    JSON = "json"


class TextFormatter(logging.Formatter):
    """Writes a record as a line for people; its fields follow the message as ``name=value``."""

    def __init__(self) -> None:
        super().__init__(TEXT)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line.

        Args:
            record: The record; its ``fields``, where it has them, are added.
        """
        fields = getattr(record, FIELDS, {})
        told = "".join(f" {name}={value}" for name, value in fields.items())
        head, mark, trace = super().format(record).partition("\n")
        return f"{head}{told}{mark}{trace}"

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802  (the library's name)
        """Return what kind of error it was, and where.

        Args:
            ei: Type, error and traceback.
        """
        name, trace = _fault(ei)
        return "\n".join([name, *(f"  at {place}" for place in trace)])


def _fault(error: _ExcInfo) -> tuple[str, list[str]]:
    """Return an error's name and places; its message may quote what it failed on."""
    places = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error[2])]
    return (error[0].__name__ if error[0] else ""), places


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object: time (UTC), level, logger, message and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line.

        Args:
            record: The record; its ``fields``, where it has them, are added.

        Returns:
            A JSON object without line breaks.
        """
        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, FIELDS, {})
        if record.exc_info and record.exc_info[0] is not None:
            line["error"], line["trace"] = _fault(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up(style: LogFormat, level: int) -> None:
    """Send all records of the process to standard error.

    Args:
        style: How they are written.
        level: The least severe that are written.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if style is LogFormat.JSON else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
