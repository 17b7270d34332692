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
from typing import Final

__all__ = ["FIELDS", "JsonFormatter", "LogFormat", "TextFormatter", "set_up"]

FIELDS: Final = "fields"
"""Name of a record's extra mapping; its items become fields of the JSON object."""

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
            # The message of an exception may quote what it failed on; its place never does.
            line["error"] = record.exc_info[0].__name__
            line["trace"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(record.exc_info[2])
            ]
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
