"""What becomes int8, what stays fp32, and how close the two graphs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import onnxruntime  # noqa: E402

from guardrail.classifier.streams import unused_inputs  # noqa: E402
from guardrail.train.export import empty_inputs, export_onnx, fuse  # noqa: E402
from guardrail.train.model import EncoderConfig, GuardModel  # noqa: E402
from guardrail.train.quantise import quantise  # noqa: E402

CONFIG = EncoderConfig(vocab=300, hidden=64, layers=2, heads=4, inner=128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    model = GuardModel(CONFIG, ("a", "b", "c")).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("graphs")
    export_onnx(model, folder / "plain.onnx")
    fuse(folder / "plain.onnx", folder / "fused.onnx", heads=4, hidden=64)
    return folder


def run(path: Path, ids: Any) -> Any:
    session = onnxruntime.InferenceSession(str(path))
    ones = np.ones_like(ids)
    feed = {
        "input_ids": ids,
        "attention_mask": ones,
        "token_type_ids": 0 * ones,
        "pool_mask": ones,
    }
    return session.run(["logits"], feed | unused_inputs(session, len(ids)))[0]


def matrices(path: Path) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for each in onnx.load(str(path)).graph.initializer:
        if len(each.dims) == 2 and min(each.dims) > 1:
            kind = onnx.TensorProto.DataType.Name(each.data_type)
            kinds[kind] = kinds.get(kind, 0) + int(np.prod(each.dims))
    return kinds


def test_every_large_matrix_is_int8_and_the_heads_are_not(folder: Path) -> None:
    quantise(folder / "fused.onnx", folder / "int8.onnx")
    layers = 2 * (4 * 64 * 64 + 2 * 64 * 128)
    embeddings, rubrics, heads, kinds = (300 + 512) * 64, 2 * 64 * 64, 2 * 64 * 3, 2 * 64
    expected = {"INT8": layers + embeddings + rubrics, "FLOAT": heads + kinds}
    assert matrices(folder / "int8.onnx") == expected


def test_it_stays_close(folder: Path) -> None:
    quantise(folder / "fused.onnx", folder / "int8.onnx")
    ids = np.random.default_rng(0).integers(0, 300, (16, 30))
    plain, rough = run(folder / "fused.onnx", ids), run(folder / "int8.onnx", ids)
    assert 0 < np.abs(plain - rough).max() < 0.15 * plain.std()


def test_a_text_of_large_values_does_not_coarsen_its_neighbours(
    folder: Path, tmp_path: Path
) -> None:
    ids = np.random.default_rng(0).integers(1, 300, (4, 12))
    quantise(folder / "fused.onnx", tmp_path / "int8.onnx")
    calm = run(tmp_path / "int8.onnx", ids)
    beside = np.concatenate([ids, np.zeros_like(ids)])
    assert np.abs(run(tmp_path / "int8.onnx", beside)[:4] - calm).max() < 1e-4


def outlying(tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Return a graph with outlying channels, as fitted encoders have them, and some texts."""
    torch.manual_seed(6)
    model = GuardModel(CONFIG, ("a", "b", "c")).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for norm in (layer.outer_norm for layer in model.layers):
        norm.weight.data[[3, 7]] *= 12
    export_onnx(model, tmp_path / "plain.onnx")
    fuse(tmp_path / "plain.onnx", tmp_path / "fused.onnx", heads=4, hidden=64)
    texts = np.random.default_rng(1).integers(1, 300, (24, 1, 20))
    empty = empty_inputs(CONFIG)
    ones = np.ones((1, 20), dtype=np.int64)
    names = ("attention_mask", "pool_mask")
    feeds = [
        {"input_ids": ids, "token_type_ids": 0 * ones, **dict.fromkeys(names, ones), **empty}
        for ids in texts
    ]
    return tmp_path / "fused.onnx", feeds


def test_texts_to_round_by_bring_the_graph_closer(tmp_path: Path) -> None:
    fused, feeds = outlying(tmp_path)
    quantise(fused, tmp_path / "blind.onnx")
    quantise(fused, tmp_path / "seeing.onnx", feeds)
    ids = np.random.default_rng(2).integers(1, 300, (16, 30))
    exact = run(fused, ids)
    blind, seeing = (
        float(np.square(run(tmp_path / f"{name}.onnx", ids) - exact).mean())
        for name in ("blind", "seeing")
    )
    assert 0 < seeing < 0.5 * blind
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("blind", "seeing")]
    assert sizes[1] - sizes[0] < 8 * 64 * 4


def test_the_same_texts_give_the_same_graph(tmp_path: Path) -> None:
    fused, feeds = outlying(tmp_path)
    for name in ("once", "again"):
        quantise(fused, tmp_path / name, feeds)
    assert (tmp_path / "once").read_bytes() == (tmp_path / "again").read_bytes()


def test_nodes_can_be_left_alone(folder: Path, tmp_path: Path) -> None:
    inner = [
        n.name
        for n in onnx.load(str(folder / "fused.onnx")).graph.node
        if n.op_type == "MatMul" and "inner" in n.name
    ]
    assert len(inner) == 2
    quantise(folder / "fused.onnx", tmp_path / "int8.onnx", skip=tuple(inner))
    quantise(folder / "fused.onnx", tmp_path / "all.onnx")
    kept = {n.name for n in onnx.load(str(tmp_path / "int8.onnx")).graph.node}
    assert set(inner) <= kept
    size = (tmp_path / "int8.onnx").stat().st_size - (tmp_path / "all.onnx").stat().st_size
    assert size > 2 * 64 * 128 * 2
