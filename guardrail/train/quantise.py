"""Makes a fused graph int8, with a scale of its own for each token.

Weights get one scale for each output channel and embeddings one for each entry. Activations are
quantised as the graph runs, by the largest value of each token alone (as in ZeroQuant, Yao et
al. 2022), not by that of the whole batch: what a text scores does not depend on what is scored
beside it, nor a stream's token on the block that it came in. ONNX Runtime's ``quantize_dynamic``,
and optimum's ``ORTQuantizer`` around it, know only scales for a whole batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["quantise"]

_MICROSOFT: Final = "com.microsoft"
_GELU: Final = frozenset(("BiasGelu", "FastGelu", "Gelu"))
_GELU_FLOOR: Final = 0.17
"""GELU never falls below -0.17, so few of the 256 steps need lie below zero."""
_GELU_ZERO: Final = 16
_ZERO: Final = 128


def quantise(source: Path, target: Path, *, skip: tuple[str, ...] = ()) -> None:
    """Quantise all matrix products and embeddings to int8, but for the heads of the outputs.

    Args:
        source: fp32 graph, fused by `guardrail.train.export.fuse`.
        target: The file to write.
        skip: Names of further nodes that stay fp32.
    """
    model = onnx.load(str(source))
    graph = model.graph
    rewriter = _Rewriter(graph, frozenset(skip))
    nodes = [new for node in graph.node for new in rewriter.rewrite(node)]
    used = {name for node in nodes for name in node.input}
    constants = [*graph.initializer, *rewriter.constants.values()]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(n for n in nodes if n.op_type != "Constant" or n.output[0] in used)
    graph.initializer.extend(c for c in constants if c.name in used)
    onnx.save(model, str(target))


class _Rewriter:
    """Replaces nodes by their int8 counterparts, and collects the constants these need."""

    def __init__(self, graph: Any, skip: frozenset[str]) -> None:
        self.constants: dict[str, Any] = {}
        self._skip = skip
        self._known = {each.name: each for each in graph.initializer}
        self._maker: dict[str, Any] = {}
        self._gelus: dict[str, bool] = {}
        for node in graph.node:
            self._maker |= dict.fromkeys(node.output, node)
            if node.op_type == "Constant":
                self._known[node.output[0]] = node.attribute[0].t
        logits = next(out for out in graph.output if out.name == "logits")
        self._heads_width = logits.type.tensor_type.shape.dim[-1].dim_value

    def rewrite(self, node: Any) -> list[Any]:
        """Return the nodes that take the place of one."""
        if node.name in self._skip:
            return [node]
        if node.op_type == "Gather" and self._is_matrix(node.input[0]):
            return self._gather(node)
        if node.op_type == "MatMul" and self._is_matrix(node.input[1]):
            width = self._known[node.input[1]].dims[1]
            return [node] if width == self._heads_width else self._matmul(node)
        return [node]

    def _is_matrix(self, name: str) -> bool:
        known = self._known.get(name)
        return known is not None and len(known.dims) == 2

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(value, name))
        return name

    def _scalar(self, value: float) -> str:
        return self._constant(f"float_{value:g}", np.array(value, dtype=np.float32))

    def _weights(self, name: str, axis: int) -> tuple[str, str]:
        """Quantise a constant matrix with one scale for each slice across ``axis``."""
        values = numpy_helper.to_array(self._known[name]).astype(np.float32)
        scales = np.maximum(np.abs(values).max(axis=axis, keepdims=True) / 127, 1e-12)
        steps = np.clip(np.round(values / scales), -127, 127).astype(np.int8)
        if axis == 0:
            scales = scales[0]
        return self._constant(f"{name}_int8", steps), self._constant(f"{name}_scale", scales)

    def _gather(self, node: Any) -> list[Any]:
        (table, index), out = node.input, node.output[0]
        steps, scales = self._weights(table, 1)
        return [
            helper.make_node("Gather", [steps, index], [f"{out}_int8"]),
            helper.make_node("Cast", [f"{out}_int8"], [f"{out}_steps"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [scales, index], [f"{out}_scale"]),
            helper.make_node("Mul", [f"{out}_steps", f"{out}_scale"], [out]),
        ]

    def _matmul(self, node: Any) -> list[Any]:
        (states, weights), out = node.input, node.output[0]
        nodes = [] if states in self._gelus else self._tokens(states)
        zero = _GELU_ZERO if self._gelus[states] else _ZERO
        steps, scales = self._weights(weights, 0)
        inputs = [f"{states}_uint8", steps, self._scalar(1), scales, self._zero(zero)]
        product = helper.make_node(
            "MatMulIntegerToFloat", inputs, [f"{out}_steps"], f"{node.name}_int8", None, _MICROSOFT
        )
        return [
            *nodes,
            product,
            helper.make_node("Mul", [f"{out}_steps", f"{states}_scale"], [out]),
        ]

    def _zero(self, value: int) -> str:
        return self._constant(f"uint8_{value}", np.array(value, dtype=np.uint8))

    def _tokens(self, states: str) -> list[Any]:
        """Quantise token states by the largest value of each token."""
        gelu = self._maker[states].op_type in _GELU
        self._gelus[states] = gelu
        zero = _GELU_ZERO if gelu else _ZERO
        steps = 255 - zero
        top, floor = f"{states}_top", _GELU_FLOOR * steps / _GELU_ZERO if gelu else 1e-6
        nodes = [helper.make_node("ReduceMax", [states], [f"{states}_max"], axes=[-1], keepdims=1)]
        highest = [f"{states}_max", self._scalar(floor)]
        if not gelu:
            low, depth = f"{states}_min", f"{states}_depth"
            nodes.append(helper.make_node("ReduceMin", [states], [low], axes=[-1], keepdims=1))
            nodes.append(helper.make_node("Neg", [low], [depth]))
            highest.append(depth)
        inverse, scaled = f"{states}_inverse", f"{states}_scaled"
        levels = [scaled, self._scalar(1), self._zero(zero)]
        return [
            *nodes,
            helper.make_node("Max", highest, [top]),
            helper.make_node("Div", [self._scalar(steps), top], [inverse]),
            helper.make_node("Mul", [top, self._scalar(1 / steps)], [f"{states}_scale"]),
            helper.make_node("Mul", [states, inverse], [scaled]),
            helper.make_node("QuantizeLinear", levels, [f"{states}_uint8"]),
        ]
