"""How a text, and the turn before it, become one token sequence; training and serving share it.

``[CLS] text [SEP]`` with token type 0 for everything but an assistant's reply, and
``[CLS] prompt [SEP] reply [SEP]`` with token type 1 for the reply: the token type tells the
model who speaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CLS", "PAD", "PROMPT_TOKENS", "SEP", "Encoded", "encode_pair", "prompt_part"]

PAD, CLS, SEP = 0, 101, 102
"""Ids of BERT's special tokens in its own uncased vocabulary."""

PROMPT_TOKENS = 64
"""Most tokens of the prompt that are read before a reply: its head and, mostly, its tail."""

_PROMPT_HEAD = 24


@dataclass(frozen=True, slots=True)
class Encoded:
    """One token sequence.

    Args:
        ids: Token ids, special ones included.
        types: Token types, 1 for an assistant's reply.
        pool: 1 for the judged tokens: the text, its closing SEP, and CLS where no prompt is.
        start: Position of the first token of the judged text.
    """

    ids: list[int]
    types: list[int]
    pool: list[int]
    start: int


def prompt_part(prompt: Sequence[int]) -> list[int]:
    """Return the head and tail of a prompt's tokens that are read before a reply."""
    if len(prompt) <= PROMPT_TOKENS:
        return list(prompt)
    return [*prompt[:_PROMPT_HEAD], *prompt[_PROMPT_HEAD - PROMPT_TOKENS :]]


def encode_pair(text: Sequence[int], prompt: Sequence[int] | None, max_tokens: int) -> Encoded:
    """Build the sequence of one text.

    Args:
        text: Token ids of the judged text, without special tokens; cut to what fits.
        prompt: Token ids of the turn before an assistant's reply (may be empty), or None where
            the text is no reply.
        max_tokens: Longest sequence.
    """
    if prompt is None:
        body = list(text[: max_tokens - 2])
        ids = [CLS, *body, SEP]
        return Encoded(ids, [0] * len(ids), [1] * len(ids), 1)
    head = [CLS, *prompt_part(prompt), SEP]
    body = list(text[: max(0, max_tokens - len(head) - 1)])
    types = [0] * len(head) + [1] * (len(body) + 1)
    return Encoded([*head, *body, SEP], types, types[:], len(head))
