"""Scores a JSONL file of texts into another, in constant memory, and goes on where it stopped.

Input lines are ``{"id", "text", "prompt"?, "role"?}``; output lines
``{"id", "unsafe": p, "categories": {key: p}}``, in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from guardrail.classifier.base import Classifier, Sample
from guardrail.evaluate.jsonl import open_output, read_jsonl, skip_done
from guardrail.types import UNSAFE, Role, Scores

__all__ = ["Item", "Summary", "output_line", "read_items", "score_file"]

CHUNK_ROWS = 512
CHUNK_CHARS = 2_000_000
"""A chunk ends at whichever comes first, so that memory stays bounded."""

_WANTED = 'each line is {"id": …, "text": "…"}, and may have prompt and role'


@dataclass(frozen=True, slots=True)
class Item:
    """One input line.

    Args:
        id: Its id, as given.
        sample: What to score.
    """

    id: str | int
    sample: Sample


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    Args:
        scored: Lines scored now.
        resumed: Lines that an earlier run had scored.
        bad: Input lines that were skipped.
        tokens: Classifier tokens processed now.
        truncated: Texts that were too long to be scored wholly.
    """

    scored: int = 0
    resumed: int = 0
    bad: int = 0
    tokens: int = 0
    truncated: int = 0


def _item(line: bytes) -> Item:
    raw = json.loads(line)
    if not isinstance(raw, dict):
        raise ValueError(f"not an object but {type(raw).__name__}")
    identifier, text, prompt = raw.get("id"), raw.get("text"), raw.get("prompt")
    if not isinstance(identifier, str | int) or isinstance(identifier, bool):
        raise ValueError("id must be a string or an integer")
    if not isinstance(text, str):
        raise ValueError("text must be a string")
    if prompt is not None and not isinstance(prompt, str):
        raise ValueError("prompt must be a string or null")
    role = raw.get("role") or (Role.TEXT if prompt is None else Role.ASSISTANT)
    return Item(identifier, Sample(text, Role(role), prompt))


def read_items(
    path: Path,
    *,
    on_bad: Callable[[int], None] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Item]:
    """Read input lines, plain or gzipped; empty lines are passed over.

    Args:
        path: The file.
        on_bad: Called with the number of a line that cannot be read, which is then skipped;
            None to raise instead.
        on_bytes: Called with the number of bytes by which the file was read on.

    Returns:
        The items in file order.

    Raises:
        DataError: The file cannot be read, or a line is wrong; names file, line and fix.
    """
    return read_jsonl(path, _item, _WANTED, on_bad=on_bad, on_bytes=on_bytes)


def output_line(identifier: str | int, scores: Scores) -> str:
    """Return one output line, without its newline; probabilities to six digits."""
    values = {name: round(p, 6) for name, p in scores.categories.items()}
    unsafe = values.pop(UNSAFE)
    return json.dumps({"id": identifier, "unsafe": unsafe, "categories": values})


def _chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    chars = 0
    for item in items:
        chunk.append(item)
        chars += len(item.sample.text) + len(item.sample.prompt or "")
        if len(chunk) >= CHUNK_ROWS or chars >= CHUNK_CHARS:
            yield chunk
            chunk, chars = [], 0
    if chunk:
        yield chunk


def score_file(
    classifier: Classifier,
    data: Path,
    out: Path,
    *,
    restart: bool = False,
    skip_bad: bool = False,
    on_bytes: Callable[[int], None] | None = None,
) -> Summary:
    """Score every line of a file.

    Lines that ``out`` already holds are kept, after their ids were compared with the input's.

    Args:
        classifier: What scores.
        data: Input, JSONL, plain or gzipped.
        out: Output, JSONL.
        restart: Whether to overwrite ``out`` instead of going on.
        skip_bad: Whether to pass over input lines that cannot be read.
        on_bytes: Called with the input bytes read, for a progress bar.

    Returns:
        What was done.

    Raises:
        DataError: A line cannot be read, or ``out`` holds another file's scores.
        CheckError: The classifier failed.
    """
    bad: list[int] = []
    items = read_items(data, on_bad=bad.append if skip_bad else None, on_bytes=on_bytes)
    scored = tokens = truncated = resumed = 0
    with open_output(out, data, restart=restart) as sink:
        resumed = skip_done(sink, items, out)
        for chunk in _chunks(items):
            scores = classifier.score([item.sample for item in chunk])
            lines = [output_line(i.id, s) for i, s in zip(chunk, scores, strict=True)]
            sink.write(("\n".join(lines) + "\n").encode("utf-8", "surrogatepass"))
            sink.flush()
            scored += len(chunk)
            tokens += sum(s.coverage.tokens for s in scores)
            truncated += sum(s.coverage.truncated for s in scores)
    return Summary(scored, resumed, len(bad), tokens, truncated)
