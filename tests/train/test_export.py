"""One graph reads whole texts and, with a cache, streams; block by block is the block mask."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnxruntime  # noqa: E402

from guardrail.classifier.pairs import encode_pair  # noqa: E402
from guardrail.classifier.streams import unused_inputs  # noqa: E402
from guardrail.train.batches import collate  # noqa: E402
from guardrail.train.export import cache_names, export_onnx, fuse  # noqa: E402
from guardrail.train.model import GuardModel  # noqa: E402
from guardrail.train.quantise import quantise  # noqa: E402
from tests.train import toys  # noqa: E402

OUTPUTS = tuple(f"output{n}" for n in range(5))
BLOCK = 16


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(3)
    model = GuardModel(toys.CONFIG, OUTPUTS)
    for parameter in model.parameters():  # else the toy's attention would be all but even
        parameter.data += 0.15 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="module")
def graphs(model: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("graphs")
    export_onnx(model, folder / "plain.onnx")
    config = toys.CONFIG
    counts = fuse(
        folder / "plain.onnx", folder / "fused.onnx", heads=config.heads, hidden=config.hidden
    )
    assert counts["SkipLayerNormalization"] == 2 * config.layers
    quantise(folder / "fused.onnx", folder / "int8.onnx")
    return {
        name: onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))
        for name in ("plain", "fused", "int8")
    }


def texts(*lengths: int) -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        encode_pair(list(rng.integers(110, 130, n)), [111, 112, 113] if n % 2 else None, 512)
        for n in lengths
    ]


def tensors(encoded: list[Any], block: int = 0) -> Any:
    none = [np.zeros(len(OUTPUTS), dtype=np.float32)] * len(encoded)
    return collate(encoded, none, none, block)


def whole(session: Any, encoded: list[Any]) -> Any:
    batch = tensors(encoded)
    feed = {
        "input_ids": batch.input_ids.numpy(),
        "attention_mask": batch.visible.numpy().astype(np.int64),
        "token_type_ids": batch.token_type_ids.numpy(),
        "pool_mask": batch.pool_mask.numpy(),
    }
    return session.run(["logits"], feed | unused_inputs(session, len(encoded)))[0]


def by_blocks(session: Any, encoded: Any, block: int, padding: int = 0) -> Any:
    """Logits of a text read block by block, each with ``padding`` tokens that are not there."""
    past, present = cache_names(toys.CONFIG.layers)
    cache = unused_inputs(session, 1)
    weights, values, seen = [], [], np.zeros((1, 0), dtype=np.int64)
    end = len(encoded.ids) - 1  # a stream has no closing SEP
    cuts = [0, *range(encoded.start, end, block), end]
    for start, stop in pairwise(cuts):
        here = np.array([[1] * (stop - start) + [0] * padding])
        seen = np.concatenate([seen, here], axis=1)
        feed = {
            "input_ids": np.pad([encoded.ids[start:stop]], ((0, 0), (0, padding))),
            "attention_mask": seen,
            "token_type_ids": np.pad([encoded.types[start:stop]], ((0, 0), (0, padding))),
            "pool_mask": here,
        }
        found = session.run(["token_weights", "token_values", *present], feed | cache)
        cache |= dict(zip(past, found[2:], strict=True))
        if start >= encoded.start:
            weights.append(found[0][0, : stop - start])
            values.append(found[1][0, : stop - start])
    shares = np.exp(np.concatenate(weights))
    return (shares * np.concatenate(values)).sum(axis=0) / shares.sum(axis=0)


def masked(model: Any, encoded: list[Any], block: int) -> Any:
    """Logits of one pass with the block-causal mask of the training, without the closing SEP."""
    batch = tensors(encoded, block)
    for row, one in enumerate(encoded):
        batch.visible[row, :, len(one.ids) - 1] = False
    with torch.no_grad():
        logits = model(batch.input_ids, batch.visible, batch.token_type_ids, batch.pool_mask)[0]
    return logits.numpy()


@pytest.mark.parametrize("name", ["plain", "fused"])
def test_the_graph_reads_whole_texts_as_the_network_does(
    graphs: dict[str, Any], model: Any, name: str
) -> None:
    encoded = texts(1, 12, 33, 200)
    batch = tensors(encoded)
    with torch.no_grad():
        expected = model(batch.input_ids, batch.visible, batch.token_type_ids, batch.pool_mask)[0]
    assert np.abs(whole(graphs[name], encoded) - expected.numpy()).max() < 2e-4


@pytest.mark.parametrize("block", [8, BLOCK, 64])
def test_block_by_block_with_a_cache_is_one_pass_with_the_block_mask(
    graphs: dict[str, Any], model: Any, block: int
) -> None:
    encoded = texts(5, 40, 77, 201)
    expected = masked(model, encoded, block)
    spread = expected.std()
    for row, one in enumerate(encoded):
        found = by_blocks(graphs["fused"], one, block)
        assert np.abs(found - expected[row]).max() < 2e-4
        rough = by_blocks(graphs["int8"], one, block)
        assert np.abs(rough - expected[row]).max() < 0.25 * spread


def test_the_block_mask_is_not_the_full_one(graphs: dict[str, Any], model: Any) -> None:
    encoded = texts(77)
    assert np.abs(whole(graphs["fused"], encoded) - masked(model, encoded, 8)).max() > 0.01


def test_padding_between_blocks_changes_nothing(graphs: dict[str, Any]) -> None:
    (one,) = texts(60)
    plain = by_blocks(graphs["int8"], one, BLOCK)
    assert np.abs(by_blocks(graphs["int8"], one, BLOCK, padding=3) - plain).max() < 1e-4


def test_int8_scores_do_not_depend_on_what_else_is_in_the_batch(graphs: dict[str, Any]) -> None:
    encoded = texts(3, 12, 50, 51, 300)
    together = whole(graphs["int8"], encoded)
    alone = np.concatenate([whole(graphs["int8"], [one]) for one in encoded])
    assert np.abs(together - alone).max() < 1e-4


def test_what_tokens_add_sums_to_the_logits(graphs: dict[str, Any]) -> None:
    (one,) = texts(9)
    feed = {
        "input_ids": np.array([one.ids]),
        "attention_mask": np.ones((1, len(one.ids)), dtype=np.int64),
        "token_type_ids": np.array([one.types]),
        "pool_mask": np.array([one.pool]),
    }
    session = graphs["fused"]
    names = ["logits", "token_logits", "token_weights", "token_values"]
    logits, parts, weights, values = session.run(names, feed | unused_inputs(session, 1))
    shares = np.exp(weights) * np.array([one.pool])[..., None]
    pooled = (shares * values).sum(axis=1) / shares.sum(axis=1)
    assert np.abs(pooled - logits).max() < 1e-4
    bias = (logits - parts.sum(axis=1))[0]
    assert np.abs(shares / shares.sum(axis=1) * (values - bias) - parts).max() < 1e-4


def test_any_number_of_rubrics_is_judged_in_the_same_pass(
    graphs: dict[str, Any], model: Any
) -> None:
    encoded = texts(4, 31)
    batch = tensors(encoded)
    rubrics = torch.randn(3, toys.CONFIG.hidden)
    with torch.no_grad():
        states = model.states(batch.input_ids, batch.token_type_ids, batch.visible)
        expected = model.judge_rubrics(states, batch.pool_mask, rubrics).numpy()
    feed = {
        "input_ids": batch.input_ids.numpy(),
        "attention_mask": batch.visible.numpy().astype(np.int64),
        "token_type_ids": batch.token_type_ids.numpy(),
        "pool_mask": batch.pool_mask.numpy(),
    }
    session = graphs["fused"]
    none = feed | unused_inputs(session, 2)
    assert session.run(["rubric_logits"], none)[0].shape == (2, 0)
    found = session.run(["rubric_logits"], none | {"rubrics": rubrics.numpy()})[0]
    assert np.abs(found - expected).max() < 2e-4


def test_features_are_the_mean_state_of_the_judged_tokens_after_each_layer(
    graphs: dict[str, Any], model: Any
) -> None:
    encoded = texts(4, 31, 90)
    batch = tensors(encoded)
    judged = batch.pool_mask.float()[..., None]
    bias = (1.0 - batch.visible.float())[:, None, None, :] * -10000.0
    expected = []
    with torch.no_grad():
        states = model.embeddings(batch.input_ids, batch.token_type_ids)
        for layer in model.layers:
            states = layer(states, bias, fused=False)
            expected.append((states * judged).sum(dim=1) / judged.sum(dim=1))
    wanted = torch.stack(expected, dim=1).numpy()
    feed = {
        "input_ids": batch.input_ids.numpy(),
        "attention_mask": batch.visible.numpy().astype(np.int64),
        "token_type_ids": batch.token_type_ids.numpy(),
        "pool_mask": batch.pool_mask.numpy(),
    }
    for name, allowed in (("plain", 2e-4), ("fused", 2e-4), ("int8", 0.25 * wanted.std())):
        session = graphs[name]
        found = session.run(["features"], feed | unused_inputs(session, len(encoded)))[0]
        assert found.shape == (3, toys.CONFIG.layers, toys.CONFIG.hidden)
        assert np.abs(found - wanted).max() < allowed
