"""Cuts token sequences of hostile length into windows, and says what was left out."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Span", "bounded", "prompt_text", "spans", "speakable"]

WORD_CHARS = 80
"""Longest run without a space; the tokenizer turns one above 100 into a single unknown token."""

_PROMPT_CHARS = 4_000
"""Characters of a prompt that are tokenized, half of them at either end; 64 tokens are read."""

_RUN = re.compile(rf"\S{{{WORD_CHARS}}}(?=\S)")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Span:
    """A window: token positions ``start`` to ``end``, the end not included."""

    start: int
    end: int


def speakable(text: str) -> str:
    """Make a text fit for the tokenizer.

    Lone surrogates, which UTF-8 cannot hold, become U+FFFD, and runs of more than 80 characters
    without a space get one, since they would otherwise be read as one unknown word.
    """
    if not text.isascii():
        text = _SURROGATE.sub("\ufffd", text)
    return _RUN.sub(r"\g<0> ", text)


def bounded(text: str, limit_chars: int) -> tuple[str, int]:
    """Keep the head and the tail of a text that is too long to tokenize.

    Args:
        text: The text.
        limit_chars: Most characters to keep.

    Returns:
        The kept text, and how many characters were left out.
    """
    if len(text) <= limit_chars:
        return text, 0
    head = limit_chars // 2
    tail = limit_chars - head
    return f"{text[:head]} {text[-tail:]}", len(text) - limit_chars


def prompt_text(prompt: str | None) -> str:
    """Return as much of the turn before a reply as is tokenized: its head and its tail."""
    return bounded(prompt or "", _PROMPT_CHARS)[0]


def spans(tokens: int, size: int, overlap: int, limit: int) -> list[Span]:
    """Cut a sequence into overlapping windows.

    Args:
        tokens: Length of the sequence.
        size: Longest window, above ``overlap``.
        overlap: Tokens that neighbours share.
        limit: Most windows, at least 1; where more are needed the first half of them stays
            and the last half, since instructions hide at either end.

    Returns:
        The windows in order; the last one is full where the sequence is long enough.
    """
    if tokens <= size:
        return [Span(0, tokens)]
    starts = [*range(0, tokens - size, size - overlap), tokens - size]
    if len(starts) > limit:
        head = (limit + 1) // 2
        starts = starts[:head] + (starts[head - limit :] if limit > head else [])
    return [Span(start, start + size) for start in starts]
