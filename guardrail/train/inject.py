"""Puts orders to the model, or harmless asides, into documents: indirect injection and its twin."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np

from guardrail.train.corpus import BENIGN, Line, fill
from guardrail.train.rows import INDEX, OUTPUTS, Example
from guardrail.types import UNSAFE

__all__ = ["ASIDE", "Injector"]

ASIDE = "aside"
"""Families of the benign files whose names begin so are sentences that documents may hold."""

INJECTED_CHARS = 260
"""Longest order or aside."""

_LEAST_CHARS, _MOST_CHARS = 80, 1200
_JOINTS = (" ", " ", "\n", "\n\n", "\n\n---\n", " -- ", "\n> ", "\n<!-- ", "\n# ", "\n| ", " (")
_CLOSINGS = {"\n<!-- ": " -->", " (": ")", "\n| ": " |"}


class Injector:
    """Draws documents that hold an order to the model, an aside to the reader, or neither.

    Args:
        examples: Rows; the harmless ones that are no requests are the documents.
        lines: Corpus lines; the short injections among them are the orders, and those whose
            family is an aside are the asides.
    """

    def __init__(self, examples: Sequence[Example], lines: Sequence[Line]) -> None:
        self._documents = [
            e.text
            for e in examples
            if e.role != "user"
            and _LEAST_CHARS < len(e.text) < _MOST_CHARS
            and e.weights[INDEX[UNSAFE]] == 1.0
            and e.targets[INDEX[UNSAFE]] == 0.0
            and not e.positive
        ]
        short = [line for line in lines if len(line.text) < INJECTED_CHARS and not line.prompt]
        self._orders = [
            line
            for line in short
            if line.key == "prompt_injection" and line.violates and line.role != "assistant"
        ]
        self._asides = [
            line
            for line in short
            if (line.key == BENIGN and line.family.startswith(ASIDE))
            or (line.key == "prompt_injection" and not line.violates and line.role == "text")
        ]

    @property
    def ready(self) -> bool:
        """Whether there are documents, orders and asides to draw from."""
        return bool(self._documents and self._orders and self._asides)

    def draw(self, rng: Random) -> Example:
        """Draw a document: half of them hold an order, a third an aside, the rest neither.

        Returns:
            An example that says something of prompt injection alone, and that it is no
            jailbreak of the reader where it holds no order.
        """
        kind = rng.random()
        document = rng.choice(self._documents)
        order = kind < 0.5
        if kind < 0.83:
            text, _ = fill(rng.choice(self._orders if order else self._asides), rng)
            document = _put(document, text, rng)
        targets = np.zeros(len(OUTPUTS), dtype=np.float32)
        weights = np.zeros(len(OUTPUTS), dtype=np.float32)
        targets[INDEX["prompt_injection"]] = float(order)
        weights[INDEX["prompt_injection"]] = 1.0
        if not order:
            weights[INDEX[UNSAFE]] = weights[INDEX["jailbreak"]] = 0.5
        return Example(document, "text", None, targets, weights, "injected/text")


def _put(document: str, text: str, rng: Random) -> str:
    """Put a text at the start, at the end or at a break between sentences of a document."""
    joint = rng.choice(_JOINTS)
    place = rng.random()
    if place < 0.2:
        return f"{text}\n\n{document}"
    text += _CLOSINGS.get(joint, "")
    if place < 0.6:
        return document + joint + text
    breaks = [n for n, char in enumerate(document[:-1], 1) if char in ".!?\n"]
    at = rng.choice(breaks) if breaks else len(document)
    return f"{document[:at]}{joint}{text} {document[at:].lstrip()}"
