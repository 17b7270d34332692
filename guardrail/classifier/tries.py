"""Answers of several tokens, such as ``S1`` beside ``S10``: which rows to run, and how to add up.

Pure. Each answer is a sequence of tokens. Where two answers part, the model is asked once; where
only one way leads on, there is nothing to ask. ``yes`` against ``no`` is one row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fork", "Tree", "grow"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fork:
    """A place where answers part.

    Args:
        path: Tokens up to here.
        tokens: Tokens that may follow, in order.
        ends: Whether an answer may also end here.
    """

    path: tuple[int, ...]
    tokens: tuple[int, ...]
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Tree:
    """All answers, as places to ask at and ways through them.

    Args:
        forks: Where to ask; the first is the beginning.
        ways: For each answer the forks it passes and the token it takes there; None where it
            ends.
    """

    forks: tuple[Fork, ...]
    ways: tuple[tuple[tuple[int, int | None], ...], ...]

    def total(self, found: Sequence[Mapping[int, float]], options: Sequence[int]) -> Floats:
        """Add up what was found at the forks.

        At the first fork probabilities are of the whole vocabulary, so that what is no answer
        is seen to be none. At a later one they are shared among the ways that lead on; where an
        answer may end it has what the others leave.

        Args:
            found: For each fork, log-probability by token.
            options: Which option each answer spells.

        Returns:
            float64 (options,), log-probability of each option.
        """
        sums = np.full(max(options) + 1, -np.inf)
        for way, option in zip(self.ways, options, strict=True):
            value = sum(self._step(found[at], at, token) for at, token in way)
            sums[option] = np.logaddexp(sums[option], value)
        return sums

    def _step(self, found: Mapping[int, float], at: int, token: int | None) -> float:
        fork = self.forks[at]
        if token is None:
            rest = 1.0 - sum(np.exp(found[t]) for t in fork.tokens)
            return float(np.log(max(rest, 1e-12)))
        if at == 0 or fork.ends:
            return found[token]
        return float(found[token] - np.logaddexp.reduce([found[t] for t in fork.tokens]))


@dataclass(slots=True)
class _Node:
    children: dict[int, _Node] = field(default_factory=dict)
    ends: bool = False


def grow(answers: Sequence[Sequence[int]]) -> Tree:
    """Find where answers part.

    Args:
        answers: Tokens of each answer; none is empty, no two are equal.

    Returns:
        The tree. Its first fork is the beginning, also where only one token can follow.
    """
    root = _Node()
    for answer in answers:
        node = root
        for token in answer:
            node = node.children.setdefault(token, _Node())
        node.ends = True
    forks: list[Fork] = []
    numbers: dict[tuple[int, ...], int] = {}
    _collect(root, (), forks, numbers)
    ways = []
    for answer in answers:
        steps: list[tuple[int, int | None]] = [
            (numbers[tuple(answer[:n])], answer[n])
            for n in range(len(answer))
            if tuple(answer[:n]) in numbers
        ]
        if tuple(answer) in numbers:
            steps.append((numbers[tuple(answer)], None))
        ways.append(tuple(steps))
    return Tree(tuple(forks), tuple(ways))


def _collect(
    node: _Node, path: tuple[int, ...], forks: list[Fork], numbers: dict[tuple[int, ...], int]
) -> None:
    if not path or len(node.children) + node.ends > 1:
        numbers[path] = len(forks)
        forks.append(Fork(path, tuple(node.children), node.ends))
    for token, child in node.children.items():
        _collect(child, (*path, token), forks, numbers)
