"""Labelled texts of an author: JSONL for tests, targets and comparisons."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from guardrail.classifier.base import Sample
from guardrail.errors import DataError
from guardrail.types import Direction, Role

__all__ = ["Labelled", "read_labels"]

MAX_BYTES: Final = 64 << 20
_ROLES: Final = {role.value: role for role in Role}


@dataclass(frozen=True, slots=True)
class Labelled:
    """One labelled text.

    Args:
        text: The text.
        category: The category that it is labelled for; None for every category.
        violates: Whether it violates it.
        role: Who speaks; an assistant's text travels as output, every other as input.
        prompt: The user turn before an assistant's reply, or None.
        line: Its line in the file.
    """

    text: str
    category: str | None
    violates: bool
    role: Role = Role.USER
    prompt: str | None = None
    line: int = 0

    @property
    def direction(self) -> Direction:
        """Which way a text of this role travels."""
        return Direction.OUTPUT if self.role is Role.ASSISTANT else Direction.INPUT

    @property
    def sample(self) -> Sample:
        """The text as a classifier takes it."""
        return Sample(self.text, self.role, self.prompt)


def read_labels(path: Path | str) -> list[Labelled]:
    """Read labelled texts, one JSON object a line.

    Fields: ``text``; ``violates`` (true or false); ``category`` (may be left out where
    ``violates`` is false: allowed by every category); ``role`` (default ``user``); ``prompt``.

    Args:
        path: The file, at most 64 MiB of UTF-8.

    Returns:
        The rows.

    Raises:
        DataError: The file cannot be read, or a row is not of this form; with its line.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file}: larger than {MAX_BYTES:,} bytes; split it")
        lines = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    return [_row(line, f"{file}:{n}", n) for n, line in enumerate(lines, 1) if line.strip()]


def _row(line: str, place: str, number: int) -> Labelled:
    try:
        raw: Any = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place}: not JSON ({error})") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("text"), str) or not raw["text"]:
        raise DataError(f'{place}: each line is an object with "text" and "violates"')
    violates, category = raw.get("violates"), raw.get("category")
    if not isinstance(violates, bool):
        raise DataError(f'{place}: "violates" should be true or false')
    if category is not None and not isinstance(category, str):
        raise DataError(f'{place}: "category" should be a category key')
    if violates and category is None:
        raise DataError(f'{place}: name the "category" that the text violates')
    role, prompt = raw.get("role", "user"), raw.get("prompt")
    if role not in _ROLES:
        raise DataError(f'{place}: "role" is {role!r}; use one of {", ".join(_ROLES)}')
    if prompt is not None and not isinstance(prompt, str):
        raise DataError(f'{place}: "prompt" should be text')
    return Labelled(raw["text"], category, violates, _ROLES[role], prompt, number)
