"""Scores labelled texts by the embedded model and by a bigger guard, in a file that can go on.

The file has a first line that says whose numbers they are, then a line for each text: a hash of
the text, both numbers, and how long the guard took. It holds no text.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from guardrail.classifier.base import Classifier, Sample
from guardrail.classifier.cascade import Guard
from guardrail.classifier.labels import read_labels
from guardrail.classifier.resilience import AnswerCache
from guardrail.errors import CheckError, DataError
from guardrail.evaluate.rows import HAZARDS, Row, read_rows
from guardrail.evaluate.tradeoff import Pairs
from guardrail.types import UNSAFE, Role

__all__ = ["Case", "Paired", "pair_up", "read_cases"]

CHUNK: Final = 64
MOST_FAILED: Final = 0.05
"""Share of the questions that a guard may fail before the rest says nothing of the traffic."""


@dataclass(frozen=True, slots=True)
class Case:
    """One labelled text.

    Args:
        sample: The text.
        violates: Whether it violates the category.
    """

    sample: Sample
    violates: bool


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """What both models gave.

    Args:
        pairs: Their numbers with the labels.
        seconds_small: Time of the embedded model for one text; NaN where the file had them all.
        seconds_big: Median time of the guard for one text.
        failed: Texts that the guard did not answer for, left out.
    """

    pairs: Pairs
    seconds_small: float
    seconds_big: float
    failed: int


def read_cases(
    path: Path, category: str, *, split: str = "all", limit: int | None = None
) -> list[Case]:
    """Read labelled texts of one category.

    Args:
        path: JSONL: a policy's labels (``text``, ``violates``, ``category``), or training rows
            (``text``, ``unsafe``, ``categories``, …), plain or .gz.
        category: Category key, or the overall one.
        split: ``dev``, ``train`` or ``all``, of training rows.
        limit: Most texts, drawn evenly over the file.

    Returns:
        Texts whose label for the category is known.

    Raises:
        DataError: The file cannot be read, or has no such texts.
    """
    if path.suffix == ".gz" or _is_training(path):
        rows = (row for row in read_rows(path) if split in ("all", row.split))
        known = ((row, _label(row, category)) for row in rows)
        cases = [
            Case(Sample(row.text, Role(row.role), row.prompt), label)
            for row, label in known
            if label is not None
        ]
    else:
        cases = [
            Case(row.sample, row.violates)
            for row in read_labels(path)
            if category == UNSAFE or row.category in (category, None)
        ]
    if not cases:
        raise DataError(f"{path}: no text has a label for '{category}'; name another --category")
    return cases if limit is None else cases[:: max(1, len(cases) // limit)][:limit]


def _is_training(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            first = json.loads(lines.readline(1 << 20) or "null")
    except (OSError, ValueError, RecursionError):
        return False  # the reader of labels says what is wrong
    return isinstance(first, dict) and "unsafe" in first


def _label(row: Row, category: str) -> bool | None:
    if category == UNSAFE:
        return None if row.unsafe is None else bool(row.unsafe)
    if category in row.categories:
        return True
    clean = row.unsafe == 0 and category in HAZARDS
    return False if clean or category in row.known else None


def pair_up(
    cases: Sequence[Case],
    category: str,
    classifier: Classifier,
    guard: Guard,
    scores: Path | None = None,
    on_done: Callable[[int], None] | None = None,
) -> Paired:
    """Score texts by both models; what a file has already is not scored again.

    Args:
        cases: The labelled texts.
        category: Category key.
        classifier: The embedded model with the policy's rules.
        guard: The guard, without calibration.
        scores: Where the numbers are kept, or None.
        on_done: Called with the number of texts that are done.

    Returns:
        The numbers of all texts that the guard answered for.

    Raises:
        DataError: The file is of another model, or the guard failed too often.
        CheckError: The embedded model failed.
    """
    head = {"model": classifier.model_id, "guard": guard.model_id, "category": category}
    book = _Book(scores, head)
    keys = [AnswerCache.key(case.sample, ()).hex()[:24] for case in cases]
    missing = [n for n, key in enumerate(keys) if key not in book.known]
    tell = on_done or (lambda _: None)
    tell(len(cases) - len(missing))
    small_s, failures = 0.0, []
    try:
        for start in range(0, len(missing), CHUNK):
            part = missing[start : start + CHUNK]
            samples = [cases[n].sample for n in part]
            started = time.perf_counter()
            found = classifier.score(samples)
            small_s += time.perf_counter() - started
            for n, one, answer in zip(part, found, _asked(guard, samples, category), strict=True):
                if isinstance(answer, CheckError):
                    failures.append(answer)
                else:
                    book.add(keys[n], (float(one.categories[category]), *answer))
            if len(failures) > max(3, MOST_FAILED * len(cases)):
                raise DataError(f"the guard fails too often: {failures[-1]}")
            tell(len(part))
    finally:
        book.close()
    rows = [
        (*book.known[key], case.violates)
        for key, case in zip(keys, cases, strict=True)
        if key in book.known
    ]
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 4)
    return Paired(
        Pairs(table[:, 0], table[:, 1], table[:, 3].astype(np.int64)),
        small_s / len(missing) if missing else float("nan"),
        float(np.median(table[:, 2])) if len(table) else float("nan"),
        len(failures),
    )


class _Book:
    """The numbers so far, in memory and, where there is a path, on disk."""

    def __init__(self, path: Path | None, head: dict[str, str]) -> None:
        self.known = _read(path, head) if path is not None else {}
        self._sink = _open(path, head, bool(self.known)) if path is not None else None

    def add(self, key: str, values: tuple[float, float, float]) -> None:
        """Keep the numbers of one text."""
        self.known[key] = values
        if self._sink is not None:
            small, big, seconds = values
            line = {"id": key, "small": small, "big": big, "s": round(seconds, 6)}
            self._sink.write(json.dumps(line) + "\n")
            self._sink.flush()

    def close(self) -> None:
        """Close the file."""
        if self._sink is not None:
            self._sink.close()


def _asked(
    guard: Guard, samples: Sequence[Sample], category: str
) -> Iterator[tuple[float, float] | CheckError]:
    """Ask about texts, as many at once as the guard takes; each answer with its seconds."""

    def one(sample: Sample) -> tuple[float, float] | CheckError:
        started = time.perf_counter()
        try:
            guard.admit(sample)
            value = guard.ask([sample], [category])[0][category]
        except CheckError as error:
            return error
        return value, time.perf_counter() - started

    with ThreadPoolExecutor(guard.spec.concurrency) as pool:
        yield from pool.map(one, samples)


def _read(path: Path, head: dict[str, str]) -> dict[str, tuple[float, float, float]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); name another --scores") from error
    found = {}
    for number, line in enumerate(lines, 1):
        try:
            raw: Any = json.loads(line)
            if number == 1:
                if raw != head:
                    raise DataError(
                        f"{path}: the scores of another model, guard or category; name another "
                        "--scores, or remove the file"
                    )
                continue
            found[str(raw["id"])] = (float(raw["small"]), float(raw["big"]), float(raw["s"]))
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break  # a run that was stopped in the middle of a line
            raise DataError(f"{path}:{number}: no line of scores; remove the file") from error
    return found


def _open(path: Path, head: dict[str, str], go_on: bool) -> IO[str]:
    try:
        if not go_on:
            sink = path.open("w", encoding="utf-8")
            sink.write(json.dumps(head) + "\n")
            return sink
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            path.write_bytes(data[: data.rfind(b"\n") + 1])
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name a writable --scores") from error
