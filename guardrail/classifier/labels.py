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
        known_gap: Why a policy is known to judge it otherwise; None where none is.
        gap_in: Names of the policies that this holds for; empty for every policy.
    """

    text: str
    category: str | None
    violates: bool
    role: Role = Role.USER
    prompt: str | None = None
    line: int = 0
    known_gap: str | None = None
    gap_in: tuple[str, ...] = ()

    @property
    def direction(self) -> Direction:
        """Which way a text of this role travels."""
        return Direction.OUTPUT if self.role is Role.ASSISTANT else Direction.INPUT

    @property
    def sample(self) -> Sample:
        """The text as a classifier takes it."""
        return Sample(self.text, self.role, self.prompt)

    def gap_of(self, policy: str) -> str | None:
        """Return why the policy of this name is known to judge it otherwise, or None."""
        return self.known_gap if not self.gap_in or policy in self.gap_in else None


def read_labels(path: Path | str) -> list[Labelled]:
    """Read labelled texts, one JSON object a line.

    Fields: ``text``; ``violates`` (true or false); ``category`` (may be left out where
    ``violates`` is false: allowed by every category); ``role`` (default ``user``); ``prompt``;
    ``known_gap`` (why a policy is known to judge it otherwise); ``gap_in`` (which policies, by
    name; every one if left out).

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
        # Not as text, which ends lines at a lone CR, too: a line has one number for all who count.
        lines = file.read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    return [_row(line, f"{file}:{n}", n) for n, line in enumerate(lines, 1) if line.strip()]


def _row(line: str, place: str, number: int) -> Labelled:
    try:
        raw: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
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
    if not isinstance(role, str) or role not in _ROLES:
        raise DataError(f'{place}: "role" is {role!r}; use one of {", ".join(_ROLES)}')
    if prompt is not None and not isinstance(prompt, str):
        raise DataError(f'{place}: "prompt" should be text')
    gap, policies = _gap(raw, place)
    return Labelled(raw["text"], category, violates, _ROLES[role], prompt, number, gap, policies)


def _gap(raw: dict[str, Any], place: str) -> tuple[str | None, tuple[str, ...]]:
    """Return why a row is a known gap, and in which policies."""
    why, policies = raw.get("known_gap"), raw.get("gap_in", [])
    if why is not None and (not isinstance(why, str) or not why.strip()):
        raise DataError(f'{place}: "known_gap" should say why, in words')
    if not isinstance(policies, list) or not all(isinstance(p, str) and p for p in policies):
        raise DataError(f'{place}: "gap_in" should be a list of names of policies')
    if "gap_in" in raw and (why is None or not policies):
        raise DataError(f'{place}: "gap_in" names the policies of a "known_gap"; give both')
    return why, tuple(policies)
