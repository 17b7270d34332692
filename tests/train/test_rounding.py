"""Rounding by what is seen of real inputs changes products less than rounding blindly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from guardrail.train.rounding import Inputs, observe, rounded, smoothing  # noqa: E402


def seen(tokens: np.ndarray) -> Inputs:
    width = tokens.shape[1]
    return Inputs(np.zeros((width, width)), np.zeros(width)).add(tokens.astype(np.float32))


def drawn(channels: int = 160, outputs: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs that go together, weights, and the size of their steps."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(600, 30)) @ rng.normal(size=(30, channels))
    tokens += 0.05 * rng.normal(size=tokens.shape)
    weights = rng.normal(size=(channels, outputs))
    return tokens, weights, np.abs(weights).max(axis=0) / 127


def test_blind_rounding_takes_the_nearest_step() -> None:
    _, weights, scales = drawn()
    steps = rounded(weights, scales, None)
    assert steps.dtype == np.int8
    assert np.abs(weights / scales - steps).max() <= 0.5


def test_rounding_by_inputs_that_go_together_halves_the_error_of_the_product() -> None:
    tokens, weights, scales = drawn()
    held, fitted = tokens[:200], tokens[200:]

    def error(steps: np.ndarray) -> float:
        return float(np.square(held @ (steps * scales - weights)).mean())

    blind, seeing = rounded(weights, scales, None), rounded(weights, scales, seen(fitted))
    assert error(seeing) < 0.5 * error(blind)
    assert np.abs(seeing.astype(int)).max() <= 127


def test_inputs_that_were_never_seen_leave_the_nearest_step() -> None:
    _, weights, scales = drawn()
    nothing = seen(np.zeros((0, weights.shape[0])))
    assert (rounded(weights, scales, nothing) == rounded(weights, scales, None)).all()


def test_smoothing_evens_out_the_channels_and_keeps_the_product() -> None:
    tokens, weights, _ = drawn()
    tokens[:, 5] *= 30
    factors = smoothing(seen(tokens), [weights.astype(np.float32)])
    smooth = tokens / factors
    assert np.allclose(smooth @ (weights * factors[:, None]), tokens @ weights)

    def outlying(states: np.ndarray) -> float:
        return float((np.abs(states).max(axis=1) / states.std(axis=1)).mean())

    assert outlying(smooth) < 0.5 * outlying(tokens)
    assert np.log(factors).mean() == pytest.approx(0, abs=1e-9)
    known = seen(tokens).divided(factors)
    again = seen(smooth)
    assert known.moments == pytest.approx(again.moments, rel=1e-3, abs=1.0)
    assert known.peaks == pytest.approx(again.peaks, rel=1e-5)


def test_observing_sums_over_all_tokens_of_all_texts(tmp_path: Path) -> None:
    first = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    second = -np.ones((1, 1, 3), dtype=np.float32)
    nodes = [
        helper.make_node("Add", ["x", "one"], ["states"]),
        helper.make_node("MatMul", ["states", "w"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.ones(1, dtype=np.float32), "one"),
        numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "w"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [1, "t", 3])],
        [value("y", TensorProto.FLOAT, [1, "t", 2])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "g.onnx"))
    found = observe(tmp_path / "g.onnx", ["states"], [{"x": first}, {"x": second}])
    tokens = np.concatenate([first[0] + 1, second[0] + 1])
    assert found["states"].moments == pytest.approx(tokens.T @ tokens)
    assert found["states"].peaks == pytest.approx(tokens.max(axis=0))
    assert observe(tmp_path / "g.onnx", ["states"], []) == {}
