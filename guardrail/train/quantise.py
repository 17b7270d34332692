"""Makes a fused graph int8, with a scale of its own for each token.

Weights get one scale for each output channel and embeddings one for each entry. Activations are
quantised as the graph runs, by the largest value of each token alone (as in ZeroQuant, Yao et
al. 2022), not by that of the whole batch: what a text scores does not depend on what is scored
beside it, nor a stream's token on the block that it came in. ONNX Runtime's ``quantize_dynamic``,
and optimum's ``ORTQuantizer`` around it, know only scales for a whole batch. What the graph is
given of real texts tells how to round (`guardrail.train.rounding`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from guardrail.train.rounding import LEVELS, Inputs, observe, rounded, smoothing

__all__ = ["quantise"]

_MICROSOFT: Final = "com.microsoft"
_NORMS: Final = frozenset(("LayerNormalization", "SkipLayerNormalization"))
_GELU: Final = frozenset(("BiasGelu", "FastGelu", "Gelu"))
_GELU_FLOOR: Final = 0.17
"""GELU never falls below -0.17, so few of the 256 steps need lie below zero."""
_GELU_ZERO: Final = 16
_ZERO: Final = 128
_SMALL_ROWS: Final = 16
"""A table of fewer entries stays fp32: every text meets them, and they take no room."""


def quantise(
    source: Path,
    target: Path,
    feeds: Iterable[Mapping[str, NDArray[Any]]] = (),
    *,
    skip: tuple[str, ...] = (),
) -> None:
    """Quantise all matrix products and embeddings to int8, but for the heads of the outputs.

    Args:
        source: fp32 graph, fused by `guardrail.train.export.fuse`.
        target: The file to write.
        feeds: The graph's inputs for some texts, one text each, by which weights are rounded;
            without any, each weight goes to the nearest step.
        skip: Names of further nodes that stay fp32.
    """
    model = onnx.load(str(source))
    graph = model.graph
    rewriter = _Rewriter(graph, frozenset(skip))
    rewriter.seen = observe(source, rewriter.states(), feeds)
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
        self.seen: dict[str, Inputs] = {}
        self._skip = skip
        self._known = {each.name: each for each in graph.initializer}
        self._maker: dict[str, Any] = {}
        self._gelus: dict[str, bool] = {}
        self._factors: dict[str, NDArray[np.float64]] = {}
        self._products: dict[str, list[str]] = {}
        for node in graph.node:
            self._maker |= dict.fromkeys(node.output, node)
            if node.op_type == "Constant":
                self._known[node.output[0]] = node.attribute[0].t
        logits = next(out for out in graph.output if out.name == "logits")
        self._heads_width = logits.type.tensor_type.shape.dim[-1].dim_value
        for node in graph.node:
            if self._is_product(node):
                self._products.setdefault(node.input[0], []).append(node.input[1])

    def states(self) -> list[str]:
        """Return the names of the token states that are multiplied with weights."""
        return list(self._products)

    def rewrite(self, node: Any) -> list[Any]:
        """Return the nodes that take the place of one."""
        if node.name in self._skip:
            return [node]
        if node.op_type == "Gather" and self._is_matrix(node.input[0]):
            small = self._known[node.input[0]].dims[0] < _SMALL_ROWS
            return [node] if small else self._gather(node)
        return self._matmul(node) if self._is_product(node) else [node]

    def _is_product(self, node: Any) -> bool:
        """Whether a node multiplies with a matrix that becomes int8."""
        if node.op_type != "MatMul" or node.name in self._skip:
            return False
        weights = node.input[1]
        return self._is_matrix(weights) and self._known[weights].dims[1] != self._heads_width

    def _is_matrix(self, name: str) -> bool:
        known = self._known.get(name)
        return known is not None and len(known.dims) == 2

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(value, name))
        return name

    def _scalar(self, value: float) -> str:
        return self._constant(f"float_{value:g}", np.array(value, dtype=np.float32))

    def _values(self, name: str) -> NDArray[np.float32]:
        return np.asarray(numpy_helper.to_array(self._known[name]), dtype=np.float32)

    def _table(self, name: str) -> tuple[str, str]:
        """Quantise embeddings with one scale for each entry."""
        values = self._values(name)
        scales = np.maximum(np.abs(values).max(axis=1, keepdims=True) / LEVELS, 1e-12)
        steps = rounded(values.T, scales[:, 0], None).T.copy()
        return self._constant(f"{name}_int8", steps), self._constant(f"{name}_scale", scales)

    def _weights(self, name: str, states: str) -> tuple[str, str]:
        """Quantise the weights of a product with one scale for each output channel."""
        values, seen = self._values(name), self.seen.get(states)
        if seen is not None and states in self._factors:
            factors = self._factors[states]
            values = (values * factors[:, None]).astype(np.float32)
            seen = seen.divided(factors)
        scales = np.maximum(np.abs(values).max(axis=0) / LEVELS, 1e-12)
        steps = rounded(values, scales, seen)
        return self._constant(f"{name}_int8", steps), self._constant(f"{name}_scale", scales)

    def _gather(self, node: Any) -> list[Any]:
        (table, index), out = node.input, node.output[0]
        steps, scales = self._table(table)
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
        steps, scales = self._weights(weights, states)
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

    def _smooth(self, states: str) -> tuple[list[Any], str]:
        """Divide token states by a factor for each channel, where it is known."""
        maker = self._maker.get(states)
        if states not in self.seen or maker is None or maker.op_type not in _NORMS:
            return [], states
        matrices = [self._values(name) for name in self._products[states]]
        factors = self._factors[states] = smoothing(self.seen[states], matrices)
        shares = self._constant(f"{states}_shares", (1 / factors).astype(np.float32))
        smooth = f"{states}_smooth"
        return [helper.make_node("Mul", [states, shares], [smooth])], smooth

    def _tokens(self, states: str) -> list[Any]:
        """Quantise token states by the largest value of each token."""
        gelu = self._maker[states].op_type in _GELU
        self._gelus[states] = gelu
        zero = _GELU_ZERO if gelu else _ZERO
        steps = 255 - zero
        top, floor = f"{states}_top", _GELU_FLOOR * steps / _GELU_ZERO if gelu else 1e-6
        nodes, smooth = self._smooth(states)
        highest = [f"{states}_max", self._scalar(floor)]
        nodes.append(helper.make_node("ReduceMax", [smooth], highest[:1], axes=[-1], keepdims=1))
        if not gelu:
            low, depth = f"{states}_min", f"{states}_depth"
            nodes.append(helper.make_node("ReduceMin", [smooth], [low], axes=[-1], keepdims=1))
            nodes.append(helper.make_node("Neg", [low], [depth]))
            highest.append(depth)
        inverse, scaled = f"{states}_inverse", f"{states}_scaled"
        levels = [scaled, self._scalar(1), self._zero(zero)]
        return [
            *nodes,
            helper.make_node("Max", highest, [top]),
            helper.make_node("Div", [self._scalar(steps), top], [inverse]),
            helper.make_node("Mul", [top, self._scalar(1 / steps)], [f"{states}_scale"]),
            helper.make_node("Mul", [smooth, inverse], [scaled]),
            helper.make_node("QuantizeLinear", levels, [f"{states}_uint8"]),
        ]
