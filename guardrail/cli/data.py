"""What commands that read labelled data share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from guardrail.evaluate.rows import Row

__all__ = ["calibration_option", "clip", "format_option", "printable", "read_data"]

SHOWN_CHARS: Final = 72

_NAMES: Final = (
    "auto", "rows", "labels", "openai-moderation", "toxicchat", "wildguardtest", "xstest",
    "beavertails", "harmbench", "aegis", "hatecheck",
)  # fmt: skip

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

format_option: Final[Decorator] = click.option(
    "--format",
    "data_format",
    type=click.Choice(_NAMES),
    default="auto",
    show_default=True,
    help="Format of the data; auto tells it by the columns.",
)

calibration_option: Final[Decorator] = click.option(
    "--calibration",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A calibration of your own for this model, as `guardrail calibrate` writes it.",
)


def clip(text: str) -> str:
    """Return a text as one quoted line, cut where it is long."""
    flat = " ".join(text.split())
    short = flat if len(flat) <= SHOWN_CHARS else flat[: SHOWN_CHARS - 3] + "..."
    return json.dumps(short, ensure_ascii=False)


def printable(text: str) -> str:
    """Return a text as one line that no terminal takes for commands (escape sequences)."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def read_data(files: Sequence[Path], data_format: str, split: str, limit: int | None) -> list[Row]:
    """Read labelled rows.

    Args:
        files: Data files.
        data_format: A key of `guardrail.evaluate.formats.FORMATS`, or ``auto``.
        split: ``dev``, ``train`` or ``all``; rows without a split are always used.
        limit: Most rows, drawn evenly; None for all.

    Raises:
        DataError: A file cannot be used, or has no such rows.
    """
    from guardrail.errors import DataError
    from guardrail.evaluate.formats import read_any

    found = [row for path in files for row in read_any(path, data_format)]
    rows = [row for row in found if split == "all" or row.split in ("", split)]
    if not rows:
        raise DataError(f"{files[0]}: no rows of split {split}; pass --split all")
    return rows if limit is None else rows[:: max(1, len(rows) // limit)][:limit]
