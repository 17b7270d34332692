"""Rounds weights so that what a graph computes changes least. Pure numerics, but for `observe`.

Two published ways, both paid for while the graph is built: a channel of large values is made
smaller before it is quantised and its weights larger by as much (SmoothQuant, Xiao et al. 2023),
and the error of each rounded weight is taken up by those that are not rounded yet, as far as
their inputs go together (GPTQ, Frantar et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

__all__ = ["Inputs", "observe", "rounded", "smoothing"]

SHARE: Final = 0.7
"""Part of a channel's range that moves to the weights; docs/decisions/0007 has the trials."""
DAMPING: Final = 0.01
"""Added to the diagonal, as a share of its mean: GPTQ's own default."""
BLOCK: Final = 128
"""Rows whose errors reach the later ones together, which is faster and changes nothing."""
LEVELS: Final = 127

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What was seen of the inputs of a matrix product.

    Args:
        moments: float64 (channels, channels), the sum of ``x x^T`` over tokens.
        peaks: float64 (channels,), the highest magnitude.
    """

    moments: Floats
    peaks: Floats

    def add(self, states: NDArray[np.float32]) -> Inputs:
        """Return these and further tokens, float32 (…, channels)."""
        tokens = states.reshape(-1, states.shape[-1])
        peaks = np.maximum(self.peaks, np.abs(tokens).max(axis=0, initial=0.0))
        return Inputs(self.moments + tokens.T @ tokens, peaks)

    def divided(self, factors: Floats) -> Inputs:
        """Return what would be seen of inputs divided by factors, float64 (channels,)."""
        return Inputs(self.moments / np.outer(factors, factors), self.peaks / factors)


def observe(
    graph: Path, names: Sequence[str], feeds: Iterable[Mapping[str, NDArray[Any]]]
) -> dict[str, Inputs]:
    """Run a graph on texts and gather what its matrix products are given.

    Args:
        graph: An fp32 graph.
        names: Tensors of the graph, float32 (batch, length, channels).
        feeds: What to run it on, without padding.

    Returns:
        By name; nothing without feeds.
    """
    import onnxruntime

    model = onnx.load(str(graph))
    known = {each.name for each in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in known)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    seen: dict[str, Inputs] = {}
    for feed in feeds:
        for name, states in zip(names, session.run(list(names), dict(feed)), strict=True):
            width = states.shape[-1]
            before = seen.get(name) or Inputs(np.zeros((width, width)), np.zeros(width))
            seen[name] = before.add(states)
    return seen


def smoothing(inputs: Inputs, weights: Sequence[NDArray[np.float32]]) -> Floats:
    """Return by what to divide inputs, and to multiply the rows of what they meet.

    ``x_max^a / w_max^(1 - a)``, as in SmoothQuant, with ``a`` of `SHARE`.

    Args:
        inputs: What was seen of them.
        weights: float32 (channels, outputs) each: every matrix that these inputs meet.

    Returns:
        float64 (channels,), of geometric mean 1.
    """
    heights = np.max([np.abs(each).max(axis=1) for each in weights], axis=0)
    logs = SHARE * np.log(np.maximum(inputs.peaks, 1e-5))
    logs -= (1 - SHARE) * np.log(np.maximum(heights, 1e-5))
    return np.asarray(np.exp(logs - logs.mean()))


def rounded(weights: NDArray[Any], scales: NDArray[Any], inputs: Inputs | None) -> NDArray[np.int8]:
    """Round weights to int8 steps.

    Args:
        weights: float (channels, outputs).
        scales: float (outputs,), the size of a step.
        inputs: What was seen of the inputs; without, each weight goes to the nearest step.

    Returns:
        int8 (channels, outputs), at most `LEVELS` in magnitude.
    """
    exact = weights.astype(np.float64) / scales
    if inputs is None:
        return _nearest(exact).astype(np.int8)
    diagonal = np.diagonal(inputs.moments)
    order = np.argsort(-diagonal, kind="stable")
    damped = inputs.moments + np.eye(len(order)) * (DAMPING * diagonal.mean() + 1e-12)
    inverse = np.linalg.inv(damped[np.ix_(order, order)])
    steps = np.empty(exact.shape, dtype=np.int8)
    steps[order] = _compensated(exact[order], np.linalg.cholesky(inverse).T)
    return steps


def _nearest(exact: Floats) -> Floats:
    return np.asarray(np.clip(np.round(exact), -LEVELS, LEVELS))


def _compensated(exact: Floats, factor: Floats) -> Floats:
    """Round row by row, the rows below taking up the error; ``factor`` is upper triangular."""
    rest, count = exact.copy(), len(exact)
    steps = np.empty_like(rest)
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        errors = np.empty((end - start, rest.shape[1]))
        for row in range(start, end):
            steps[row] = _nearest(rest[row])
            errors[row - start] = (rest[row] - steps[row]) / factor[row, row]
            rest[row + 1 : end] -= np.outer(factor[row, row + 1 : end], errors[row - start])
        rest[end:] -= factor[start:end, end:].T @ errors
    return steps
