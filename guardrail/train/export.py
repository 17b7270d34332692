"""Turns the fitted network into one ONNX graph that reads whole texts and streams.

The graph takes the keys and values of earlier tokens and gives them back with its own: with none
of them it reads a whole text, with those of a stream's earlier blocks it reads the next block,
each token once. `quantise` makes it int8. Fusion is ONNX Runtime's own tool.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from guardrail.train.model import EncoderConfig, GuardModel

__all__ = ["INPUTS", "RESULTS", "cache_names", "empty_inputs", "export_onnx", "fuse"]

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pool_mask", "rubrics")
RESULTS = (
    "logits",
    "features",
    "rubric_logits",
    "token_logits",
    "token_weights",
    "token_values",
)
OPSET = 17
_BIAS_SLOT = 5
"""Input of `MultiHeadAttention` for an additive bias, which must be there, empty."""

_log = logging.getLogger(__name__)


def cache_names(layers: int) -> tuple[list[str], list[str]]:
    """Return the names of the cache's inputs and outputs, in the common convention.

    Args:
        layers: Transformer layers.
    """
    parts = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
    return [f"past_key_values.{part}" for part in parts], [f"present.{part}" for part in parts]


def empty_inputs(config: EncoderConfig) -> dict[str, NDArray[np.float32]]:
    """Return what the graph is given, besides one text: no earlier tokens, and no rubrics."""
    none = np.zeros((1, config.heads, 0, config.hidden // config.heads), dtype=np.float32)
    past, _ = cache_names(config.layers)
    return {**dict.fromkeys(past, none), "rubrics": none.reshape(0, config.hidden)}


class _Attention(torch.autograd.Function):  # type: ignore[misc]
    """Attention over a cache and the new tokens, exported as ONNX Runtime's own operator."""

    @staticmethod
    def symbolic(g: Any, *inputs: Any) -> Any:
        """Emit the operator; see ``MultiHeadAttention`` in ONNX Runtime's contrib operators."""
        *tensors, heads = inputs
        query, past_key, past_value = tensors[0], tensors[-2], tensors[-1]
        name = "com.microsoft::MultiHeadAttention"
        mixed, key, value = g.op(name, *tensors, num_heads_i=heads, outputs=3)
        mixed.setType(query.type())
        key.setType(past_key.type())
        value.setType(past_value.type())
        return mixed, key, value

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ARG004  (torch hands it over)
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor,
        mask: Tensor,
        past_key: Tensor,
        past_value: Tensor,
        heads: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the same in torch."""
        batch, length, hidden = query.shape
        parts = zip((query, key, value), bias.split(hidden), strict=True)
        q, k, v = (
            (states + own).view(batch, length, heads, hidden // heads).transpose(1, 2)
            for states, own in parts
        )
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
        unseen = (1.0 - mask[:, None, None, :].to(torch.float32)) * -10000.0
        weights = torch.matmul(q, k.transpose(-1, -2)) / (hidden // heads) ** 0.5 + unseen
        mixed = torch.matmul(functional.softmax(weights, dim=-1), v)
        return mixed.transpose(1, 2).reshape(batch, length, hidden), k, v


class _Served(torch.nn.Module):  # type: ignore[misc]
    """The network as it is served: integer masks and a cache in, the named results out."""

    def __init__(self, model: GuardModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        pool_mask: Tensor,
        rubrics: Tensor,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:
        """Read the new tokens; the mask also says which of the cached ones are there."""
        embeddings = self.model.embeddings
        # A token's position counts the tokens before it, whatever padding lies between.
        positions = (attention_mask.cumsum(1)[:, -input_ids.shape[1] :] - 1).clamp(min=0)
        states = embeddings.word_embeddings(input_ids)
        states = states + embeddings.token_type_embeddings(token_type_ids)
        states = embeddings.LayerNorm(states + embeddings.position_embeddings(positions))
        mask = attention_mask.to(torch.int32)
        judged = pool_mask.to(torch.float32)
        shares = (judged / judged.sum(dim=1, keepdim=True).clamp(min=1.0)).unsqueeze(1)
        present: list[Tensor] = []
        means: list[Tensor] = []
        for number, layer in enumerate(self.model.layers):
            cache = past[2 * number : 2 * number + 2]
            states, *new = self._layer(layer, states, mask, cache)
            present += new
            means.append(torch.matmul(shares, states))
        logits, _, token_logits = self.model.judge(states, pool_mask)
        features = torch.cat(means, dim=1)
        rubric_logits = self.model.judge_rubrics(states, pool_mask, rubrics)
        weights = self.model.head_query(states) / self.model.config.hidden**0.5
        values = self.model.head_value(states)
        return logits, features, rubric_logits, token_logits, weights, values, *present

    def _layer(
        self, layer: Any, states: Tensor, mask: Tensor, past: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        projections = (layer.query, layer.key, layer.value)
        split = [functional.linear(states, each.weight) for each in projections]
        bias = torch.cat([each.bias for each in projections])
        mixed, *new = _Attention.apply(*split, bias, mask, *past, layer.heads)
        states = layer.attended_norm(states + layer.attended(mixed))
        inner = functional.gelu(layer.inner(states))
        return layer.outer_norm(states + layer.outer(inner)), *new


def export_onnx(model: GuardModel, path: Path) -> None:
    """Write a network as fp32 ONNX with dynamic batch, length and cache.

    Besides ``logits`` and ``token_logits`` of `GuardModel.forward` and, as ``rubric_logits``,
    those of `GuardModel.judge_rubrics` for any number of ``rubrics`` (none as well), the graph
    gives ``features``, float32 (batch, layers, hidden), the mean of the judged tokens' states
    after each layer (after the last one it is what the network calls the embedding), and,
    float32 (batch, length, outputs), ``token_weights``, the logarithms of what the pooling
    softmax normalises, and ``token_values``, what it averages, bias included: by these a
    stream's blocks are pooled exactly.

    Args:
        model: The fitted network.
        path: The file to write.
    """
    import onnx

    model.eval()
    config = model.config
    past, present = cache_names(config.layers)
    new, cached = 7, 5
    ids, total = (torch.ones(2, n, dtype=torch.int64) for n in (new, new + cached))
    cache = torch.zeros(2, config.heads, cached, config.hidden // config.heads)
    rubrics = torch.ones(3, config.hidden)
    axes = {name: {0: "batch", 1: "length"} for name in (*INPUTS, *RESULTS)}
    axes |= {"attention_mask": {0: "batch", 1: "total"}, "rubrics": {0: "rubrics"}}
    axes |= {name: {0: "batch"} for name in ("logits", "features")}
    axes["rubric_logits"] = {0: "batch", 1: "rubrics"}
    axes |= {name: {0: "batch", 2: "cached"} for name in past}
    axes |= {name: {0: "batch", 2: "total"} for name in present}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Served(model).eval(),
            (ids, total, ids, ids, rubrics, *[cache] * len(past)),
            str(path),
            input_names=[*INPUTS, *past],
            output_names=[*RESULTS, *present],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
            custom_opsets={"com.microsoft": 1},
        )
    exported = onnx.load(str(path))
    for node in exported.graph.node:
        if node.op_type == "MultiHeadAttention":  # torch cannot leave an input out
            node.input.insert(_BIAS_SLOT, "")
    onnx.save(exported, str(path))


def fuse(source: Path, target: Path, *, heads: int, hidden: int) -> dict[str, int]:
    """Fuse layer normalisation and GELU into ONNX Runtime's own operators.

    Args:
        source: fp32 graph.
        target: The file to write.
        heads: Attention heads.
        hidden: Width of a token state.

    Returns:
        How many of each operator were fused.
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    # Embedding fusion wants int32 masks and one fixed mask form; it gains nothing on a CPU.
    options.enable_embed_layer_norm = False
    fused = optimizer.optimize_model(
        str(source),
        model_type="bert",
        num_heads=heads,
        hidden_size=hidden,
        optimization_options=options,
        opt_level=0,
    )
    fused.save_model_to_file(str(target))
    counts: dict[str, int] = fused.get_fused_operator_statistics()
    _log.info("fused operators: %s", counts)
    return counts
