"""``guardrail policy test --mark-gaps``: the marks of known gaps, written into the test files."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from guardrail.cli.policy_suite import Case
from guardrail.errors import DataError
from guardrail.policy import Policy
from guardrail.types import Action

__all__ = ["MOST_GAPS", "Change", "mark", "marked_cases", "over_the_limit"]

MOST_GAPS: Final = 0.10
"""Share of a policy's texts beyond which marks would hide that it does not work."""
_GENERATED: Final = re.compile(r"^\S+@[0-9a-f]{12}\S* reads ")
"""A reason that was written here, and so is written anew for another model."""

Suites = Sequence[tuple[Policy, Sequence[Case]]]


@dataclass(frozen=True, slots=True)
class Change:
    """A test file with its marks brought up to date.

    Args:
        file: The file.
        before: Its text as it is.
        after: Its text as it should be.
    """

    file: Path
    before: str
    after: str

    def diff(self) -> list[str]:
        """Return the changed lines, as a unified diff shows them."""
        old, new = (text.splitlines() for text in (self.before, self.after))
        name = os.path.relpath(self.file)
        return list(difflib.unified_diff(old, new, name, name, lineterm="", n=0))

    def write(self) -> None:
        """Put it in place, whole or not at all.

        Raises:
            DataError: The file cannot be written.
        """
        draft = self.file.with_name(f".{self.file.name}.tmp")
        try:
            draft.write_text(self.after, encoding="utf-8", newline="")
            draft.replace(self.file)
        except OSError as error:
            raise DataError(f"{self.file}: cannot be written ({error.strerror})") from error


def over_the_limit(cases: Sequence[Case]) -> bool:
    """Whether more of a suite fails than may be marked."""
    return sum(not case.expected for case in cases) > MOST_GAPS * len(cases)


def marked_cases(cases: Sequence[Case], model: str) -> list[Case]:
    """Return a suite as it will be once its gaps are marked.

    Args:
        cases: The suite.
        model: Identity of the model that judged it.
    """
    return [replace(c, gap=None if c.expected else _why(c, model)) for c in cases]


def _why(case: Case, model: str) -> str:
    """Return the reason: a person's own, or what the model reads."""
    said = case.row.known_gap
    if said is not None and not _GENERATED.match(said):
        return said
    scores = case.verdict.scores
    if case.row.violates:
        chances = {case.row.category or "unsafe": scores.get(case.row.category or "unsafe")}
    else:
        found = (f for f in case.verdict.findings if f.action is not Action.PASS)
        chances = {f.category: f.probability for f in found}
    shown = ", ".join(f"{key} at {chance or 0:.2f}" for key, chance in chances.items())
    return f"{model} reads {shown}"


def mark(suites: Suites, model: str) -> list[Change]:
    """Bring the marks of test files up to date: what fails is marked, what passes is not.

    A reason in a person's words is kept for as long as the text fails. Marks for policies that
    are not among those given are kept where `gap_in` names them.

    Args:
        suites: Policies with their judged texts.
        model: Identity of the model that judged them.

    Returns:
        The files that change.

    Raises:
        DataError: An example fails and no test file has texts of its category, or a file was
            edited in between.
    """
    seen: dict[Path, dict[int, dict[str, Case]]] = {}
    added: dict[Path, dict[tuple[str | None, str], dict[str, Case]]] = {}
    for policy, cases in suites:
        for case in cases:
            if case.file is not None:
                rows = seen.setdefault(case.file, {})
                rows.setdefault(case.row.line, {})[policy.name] = case
            elif not case.expected:
                key = (case.row.category, case.row.text)
                home = added.setdefault(_home(case, cases, policy), {})
                home.setdefault(key, {})[policy.name] = case
    changes = []
    for file in dict.fromkeys([*seen, *added]):
        before, lines = _read(file)
        by_line = seen.get(file, {})
        _unchanged(file, lines, by_line)
        after = [_marked(line, by_line.get(n, {}), model) for n, line in enumerate(lines, 1)]
        kept = [line for line in after if line is not None]
        end = "\r" if lines[0].endswith("\r") else ""
        new = [_new_row(cases, model) + end for cases in added.get(file, {}).values()]
        while new and kept and not kept[-1].strip():
            kept.pop()
        text = "\n".join([*kept, *new, ""] if new else kept)
        if text != before:
            changes.append(Change(file, before, text))
    return changes


def _home(case: Case, cases: Sequence[Case], policy: Policy) -> Path:
    """Return the file with the other texts of an example's category."""
    for other in cases:
        if other.file is not None and other.row.category == case.row.category:
            return other.file
    raise DataError(
        f"{policy.file}: an example of '{case.row.category}' fails and has no place for a mark; "
        "name a file with texts of this category under 'tests:'"
    )


def _read(file: Path) -> tuple[str, list[str]]:
    with file.open(encoding="utf-8", newline="") as handle:  # keeps \r\n
        text = handle.read()
    return text, text.split("\n")


def _unchanged(file: Path, lines: Sequence[str], by_line: Mapping[int, Mapping[str, Case]]) -> None:
    """Refuse to mark a file that was edited while its texts were judged, which takes a while."""
    for number, cases in by_line.items():
        try:
            same = json.loads(lines[number - 1])["text"] == next(iter(cases.values())).row.text
        except (IndexError, KeyError, TypeError, ValueError):
            same = False
        if not same:
            raise DataError(f"{file}:{number}: changed while it was judged; run it again")


def _marked(line: str, cases: Mapping[str, Case], model: str) -> str | None:
    """Return a line with its mark brought up to date; None for one that was only a mark."""
    if not cases:
        return line
    row = next(iter(cases.values())).row
    failed = {name: case for name, case in cases.items() if not case.expected}
    if row.known_gap is not None and not row.gap_in and len(failed) == len(cases):
        policies: list[str] = []  # holds for all as it did
    else:
        policies = sorted({*failed, *(name for name in row.gap_in if name not in cases)})
        if not policies:
            example = any(case.example for case in cases.values())
            ours = row.known_gap is not None and _GENERATED.match(row.known_gap)
            return None if example and ours else _with(line, {})
    why = _why(next(iter(failed.values())), model) if failed else row.known_gap
    return _with(line, {"known_gap": why, **({"gap_in": policies} if policies else {})})


def _with(line: str, fields: Mapping[str, Any]) -> str:
    """Return a JSON line with other marks, its own way of writing kept."""
    raw = json.loads(line)
    plain = {key: value for key, value in raw.items() if key not in ("known_gap", "gap_in")}
    if {**plain, **fields} == raw:
        return line
    end = "\r" if line.endswith("\r") else ""
    return _dump({**plain, **fields}, ascii_only=line.isascii(), tight='": ' not in line) + end


def _dump(row: Mapping[str, Any], *, ascii_only: bool, tight: bool = False) -> str:
    separators = (",", ":") if tight else (", ", ": ")
    return json.dumps(row, ensure_ascii=ascii_only, separators=separators)


def _new_row(cases: Mapping[str, Case], model: str) -> str:
    """Return a line that marks an example."""
    case = next(iter(cases.values()))
    row: dict[str, Any] = {
        "text": case.row.text,
        "category": case.row.category,
        "violates": case.row.violates,
    }
    if case.row.role != "user":
        row["role"] = case.row.role.value
    row |= {"known_gap": _why(case, model), "gap_in": sorted(cases)}
    return _dump(row, ascii_only=case.row.text.isascii())
