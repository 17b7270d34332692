"""The development set: held-out rows, corpus families, wrappers and injected documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from guardrail.train.corpus import Line, Wrapper, corpus_example, expansions
from guardrail.train.inject import Injector
from guardrail.train.mixture import Mixture, Shares
from guardrail.train.rows import Example, Row, example

__all__ = ["dev_examples"]

SLOT_FILLINGS = 2
WRAPPED = 400
INJECTED = 200


def dev_examples(
    rows: Iterable[Row], lines: Sequence[Line], wrappers: Sequence[Wrapper], seed: int = 11
) -> list[Example]:
    """Build the development set.

    Args:
        rows: Rows of any split; those of ``dev`` are used.
        lines: Every corpus line; those of held-out families are used, slots filled twice.
        wrappers: Every wrapper; held-out ones go around held-out requests.
        seed: Seed of the wrapped and the injected part.

    Returns:
        The examples, those without any known target left out.
    """
    held = [example(row) for row in rows if row.split == "dev"]
    ours = [line for line in lines if line.dev]
    twins = [
        corpus_example(line, text, prompt)
        for line in ours
        for text, prompt in expansions(line, SLOT_FILLINGS)
    ]
    around = [wrapper for wrapper in wrappers if wrapper.dev]
    wrapped: list[Example] = []
    if around and (held or ours):
        only = Shares(corpus=0.0, benign=0.0, wrapped=1.0)
        mixture = Mixture(held, ours, around, seed, only)
        wrapped = [mixture.draw() for _ in range(WRAPPED)]
    injector = Injector(held, ours)
    if injector.ready:
        rng = Random(seed)  # noqa: S311
        wrapped.extend(injector.draw(rng) for _ in range(INJECTED))
    return [e for e in [*held, *twins, *wrapped] if (e.weights >= 0.99).any()]
