"""Runs a judge over files: exchanges to judge, candidates to rank, preference pairs to be right on.

Constant memory, and a stopped run goes on where it stopped (`guardrail.evaluate.jsonl`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from guardrail.classifier.judge import Judgement
from guardrail.classifier.judges import Judge, score_of
from guardrail.classifier.questions import Exchange, Rubric
from guardrail.evaluate.jsonl import HasId, open_output, read_jsonl, skip_done
from guardrail.types import Role

__all__ = [
    "Case",
    "Done",
    "Pair",
    "Task",
    "judge_file",
    "pairs_file",
    "rank_file",
    "read_cases",
    "read_pairs",
]

CHUNK: Final = 16
"""Lines that are judged together, and lost together when a run is stopped."""

MAX_CANDIDATES: Final = 64

CASE_WANTED: Final = (
    'each line is {"id": …, "text": "…"}, and may have prompt, context, reference, role and label'
)
RANK_WANTED: Final = 'each line is {"id": …, "candidates": ["…", …]}, and may have prompt'
PAIR_WANTED: Final = 'each line is {"id": …, "chosen": "…", "rejected": "…"}, and may have prompt'


@dataclass(frozen=True, slots=True)
class Case:
    """One exchange of a file.

    Args:
        id: Its id, as given.
        exchange: What to judge.
        label: Whether it matches the rubric, where that is known.
    """

    id: str | int
    exchange: Exchange
    label: bool | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt with its candidates.

    Args:
        id: Its id, as given.
        candidates: The exchanges, one for each candidate.
    """

    id: str | int
    candidates: tuple[Exchange, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with the reply that people preferred, and the other.

    Args:
        id: Its id, as given.
        chosen: The one they preferred.
        rejected: The other.
    """

    id: str | int
    chosen: Exchange
    rejected: Exchange


@dataclass(frozen=True, slots=True)
class Done:
    """What a run did.

    Args:
        judged: Lines judged now.
        resumed: Lines that an earlier run had judged.
        bad: Input lines that were skipped.
    """

    judged: int = 0
    resumed: int = 0
    bad: int = 0


def _object(line: bytes) -> tuple[str | int, dict[str, Any]]:
    raw = json.loads(line)
    if not isinstance(raw, dict):
        raise ValueError(f"not an object but {type(raw).__name__}")
    identifier = raw.get("id")
    if not isinstance(identifier, str | int) or isinstance(identifier, bool):
        raise ValueError("id must be a string or an integer")
    return identifier, raw


def _text(raw: dict[str, Any], name: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string")
    return value


def _maybe(raw: dict[str, Any], name: str) -> str | None:
    return None if raw.get(name) is None else _text(raw, name)


def _reply(raw: dict[str, Any], text: str) -> Exchange:
    return Exchange(
        text,
        Role.ASSISTANT,
        prompt=_maybe(raw, "prompt"),
        context=_maybe(raw, "context"),
        reference=_maybe(raw, "reference"),
    )


def _case(line: bytes) -> Case:
    identifier, raw = _object(line)
    exchange = _reply(raw, _text(raw, "text"))
    role = raw.get("role") or (Role.TEXT if exchange.prompt is None else Role.ASSISTANT)
    label = raw.get("label")
    if label is not None and label not in (0, 1):
        raise ValueError("label must be 0, 1, true, false or null")
    known = None if label is None else bool(label)
    return Case(
        identifier,
        Exchange(exchange.text, Role(role), exchange.prompt, exchange.context, exchange.reference),
        known,
    )


def _task(line: bytes) -> Task:
    identifier, raw = _object(line)
    texts = raw.get("candidates")
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise ValueError("candidates must be a list of strings")
    if not 1 <= len(texts) <= MAX_CANDIDATES:
        raise ValueError(f"candidates must be 1 to {MAX_CANDIDATES}, not {len(texts)}")
    return Task(identifier, tuple(_reply(raw, text) for text in texts))


def _pair(line: bytes) -> Pair:
    identifier, raw = _object(line)
    chosen, rejected = _text(raw, "chosen"), _text(raw, "rejected")
    return Pair(identifier, _reply(raw, chosen), _reply(raw, rejected))


Item = TypeVar("Item", bound=HasId)


@dataclass(frozen=True, slots=True)
class _Kind(Generic[Item]):
    """What a kind of line is, and what is written for it."""

    parse: Callable[[bytes], Item]
    wanted: str
    exchanges: Callable[[Item], Sequence[Exchange]]
    line: Callable[[Item, Sequence[Sequence[Judgement]], Sequence[Rubric]], dict[str, Any]]


def _verdicts(row: Sequence[Judgement]) -> dict[str, Any]:
    return {
        j.rubric: {
            "probability": round(j.probability, 6),
            "logit": round(j.logit, 6),
            "answered": round(j.answered, 6),
            "truncated": j.dropped > 0,
        }
        for j in row
    }


def _case_line(
    case: Case, rows: Sequence[Sequence[Judgement]], _: Sequence[Rubric]
) -> dict[str, Any]:
    label = {} if case.label is None else {"label": int(case.label)}
    return {**label, "rubrics": _verdicts(rows[0])}


def _task_line(
    _: Task, rows: Sequence[Sequence[Judgement]], rubrics: Sequence[Rubric]
) -> dict[str, Any]:
    scores = [round(score_of(row, rubrics), 6) for row in rows]
    order = sorted(range(len(scores)), key=lambda n: -scores[n])
    return {"best": order[0], "order": order, "scores": scores}


def _pair_line(
    _: Pair, rows: Sequence[Sequence[Judgement]], rubrics: Sequence[Rubric]
) -> dict[str, Any]:
    chosen, rejected = (round(score_of(row, rubrics), 6) for row in rows)
    return {"chosen": chosen, "rejected": rejected, "margin": round(chosen - rejected, 6)}


_CASES: Final[_Kind[Case]] = _Kind(_case, CASE_WANTED, lambda case: [case.exchange], _case_line)
_TASKS: Final[_Kind[Task]] = _Kind(_task, RANK_WANTED, lambda task: task.candidates, _task_line)
_PAIRS: Final[_Kind[Pair]] = _Kind(
    _pair, PAIR_WANTED, lambda pair: (pair.chosen, pair.rejected), _pair_line
)


def read_cases(path: Path) -> Iterator[Case]:
    """Read exchanges; see `judge_file` for the lines and the errors."""
    return read_jsonl(path, _case, CASE_WANTED)


def read_pairs(path: Path) -> Iterator[Pair]:
    """Read preference pairs; see `pairs_file` for the lines."""
    return read_jsonl(path, _pair, PAIR_WANTED)


def judge_file(judge: Judge, rubrics: Sequence[Rubric], data: Path, out: Path, **how: Any) -> Done:
    """Judge every exchange of a file.

    Args:
        judge: What judges.
        rubrics: What it looks for.
        data: JSONL, plain or gzipped: ``{"id", "text", "prompt"?, "context"?, "reference"?,
            "role"?, "label"?}``.
        out: JSONL to write: ``{"id", "model", "label"?, "rubrics": {key: {"probability", …}}}``.
        **how: ``restart``, ``skip_bad``, ``limit`` and ``on_bytes``, see `guardrail.evaluate`.

    Returns:
        What was done.

    Raises:
        DataError: A line cannot be read, or ``out`` is another file's.
        SettingsError: A rubric needs what an exchange does not have.
        CheckError: The judge failed.
    """
    return _run(_CASES, judge, rubrics, data, out, **how)


def rank_file(judge: Judge, rubrics: Sequence[Rubric], data: Path, out: Path, **how: Any) -> Done:
    """Rank the candidates of every line; see `judge_file`.

    Input is ``{"id", "candidates": [text, …], "prompt"?, "context"?, "reference"?}``, output
    ``{"id", "best": index, "order": [index, …], "scores": [number, …]}``.
    """
    return _run(_TASKS, judge, rubrics, data, out, **how)


def pairs_file(judge: Judge, rubrics: Sequence[Rubric], data: Path, out: Path, **how: Any) -> Done:
    """Score both replies of every preference pair; see `judge_file`.

    Input is ``{"id", "chosen", "rejected", "prompt"?}``, as reward-model benchmarks have it,
    output ``{"id", "chosen": score, "rejected": score, "margin": difference}``.
    """
    return _run(_PAIRS, judge, rubrics, data, out, **how)


def _run(
    kind: _Kind[Item],
    judge: Judge,
    rubrics: Sequence[Rubric],
    data: Path,
    out: Path,
    *,
    restart: bool = False,
    skip_bad: bool = False,
    limit: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Done:
    bad: list[int] = []
    lines = read_jsonl(
        data, kind.parse, kind.wanted, on_bad=bad.append if skip_bad else None, on_bytes=on_bytes
    )
    items = _first(lines, limit)
    judged = 0
    with open_output(out, data, restart=restart) as sink:
        resumed = skip_done(sink, items, out, judge.model_id)
        for chunk in _chunks(items):
            parts = [kind.exchanges(item) for item in chunk]
            rows = judge.judge([exchange for part in parts for exchange in part], rubrics)
            at = 0
            for item, part in zip(chunk, parts, strict=True):
                body = kind.line(item, rows[at : at + len(part)], rubrics)
                at += len(part)
                whole = {"id": item.id, "model": judge.model_id, **body}
                sink.write((json.dumps(whole) + "\n").encode())
            sink.flush()
            judged += len(chunk)
    return Done(judged, resumed, len(bad))


def _first(items: Iterator[Item], limit: int | None) -> Iterator[Item]:
    for n, item in enumerate(items):
        if limit is not None and n >= limit:
            return
        yield item


def _chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
