"""The loss of block-causal reading: nothing but full attention is its teacher."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from guardrail.classifier.pairs import encode_pair  # noqa: E402
from guardrail.train.batches import Batch, collate  # noqa: E402
from guardrail.train.fit import FitSettings, _gradients  # noqa: E402
from guardrail.train.model import EncoderConfig, GuardModel  # noqa: E402

NONE = np.zeros(2, dtype=np.float32)
ALONE = FitSettings(mixed=False)


def batch_of(block: int) -> Batch:
    encoded = [encode_pair(list(range(110, 110 + n)), None, 64) for n in (12, 20, 30)]
    return collate(encoded, [NONE] * 3, [NONE] * 3, block)


def distance(model: GuardModel, block: int) -> float:
    """Greatest difference of the logits that the two ways of reading give."""
    logits = []
    for batch in (batch_of(0), batch_of(block)):
        with torch.no_grad():
            states = model.states(batch.input_ids, batch.token_type_ids, batch.visible)
            logits.append(model.judge(states, batch.pool_mask)[0])
    return float((logits[0] - logits[1]).abs().max())


def test_blocks_learn_from_full_attention_where_no_label_is_known() -> None:
    torch.manual_seed(0)
    model = GuardModel(EncoderConfig(160, 32, 2, 4, 64), ("unsafe", "hate"), dropout=0.0)
    with torch.no_grad():
        model.head_value.weight.mul_(20)
    before = distance(model, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(100):
        _, gradients = _gradients(model, batch_of(4), ALONE, 3)
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    assert distance(model, 4) < 0.2 * before


def test_full_batches_and_a_weight_of_zero_teach_nothing_without_labels() -> None:
    model = GuardModel(EncoderConfig(160, 32, 2, 4, 64), ("unsafe", "hate"), dropout=0.0)
    for batch, settings in (
        (batch_of(0), ALONE),
        (batch_of(4), replace(ALONE, block_weight=0.0)),
    ):
        _, gradients = _gradients(model, batch, settings, 3)
        assert all(g is None or not g.any() for g in gradients)
