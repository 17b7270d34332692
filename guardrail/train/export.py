"""Turns the fitted network into an int8 ONNX graph, and compares the two.

The order is export, fuse, quantise. Fusion and quantisation are ONNX Runtime's own tools.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch

from guardrail.train.model import GuardModel

__all__ = ["INPUTS", "RESULTS", "export_onnx", "fuse", "quantise"]

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pool_mask")
RESULTS = ("logits", "embedding", "token_logits")
OPSET = 17

_log = logging.getLogger(__name__)


class _Served(torch.nn.Module):  # type: ignore[misc]
    """The network as it is served: integer masks in, the named results out."""

    def __init__(self, model: GuardModel, results: int) -> None:
        super().__init__()
        self.model = model
        self.results = results

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        pool_mask: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        results: tuple[torch.Tensor, ...] = self.model(
            input_ids, attention_mask, token_type_ids, pool_mask
        )
        return results[: self.results]


def export_onnx(model: GuardModel, path: Path, *, token_logits: bool = True) -> None:
    """Write a network as fp32 ONNX with dynamic batch and length.

    Args:
        model: The fitted network.
        path: The file to write.
        token_logits: Whether what each token adds is a third result.
    """
    model.eval()
    fused, model.fused = model.fused, False  # spelled-out attention is what ONNX Runtime fuses
    results = RESULTS if token_logits else RESULTS[:2]
    example = tuple(torch.ones(2, 7, dtype=torch.int64) for _ in INPUTS)
    axes = {name: {0: "batch", 1: "length"} for name in (*INPUTS, "token_logits")}
    axes |= {"logits": {0: "batch"}, "embedding": {0: "batch"}}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Served(model, len(results)).eval(),
            example,
            str(path),
            input_names=list(INPUTS),
            output_names=list(results),
            dynamic_axes={name: axes[name] for name in (*INPUTS, *results)},
            opset_version=OPSET,
            dynamo=False,
        )
    model.fused = fused


def fuse(source: Path, target: Path, *, heads: int, hidden: int) -> dict[str, int]:
    """Fuse attention, layer normalisation and GELU into ONNX Runtime's own operators.

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


def _small_matmuls(source: Path) -> list[str]:
    """Names of the matrix products of the heads: they cost nothing and decide everything."""
    import onnx

    graph = onnx.load(str(source)).graph
    return [
        node.name
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm") and "layers." not in node.name
    ]


def quantise(source: Path, target: Path, *, skip: tuple[str, ...] = ()) -> None:
    """Quantise a graph's weights to int8, one scale for each channel; activations dynamically.

    Args:
        source: fp32 graph.
        target: The file to write.
        skip: Names of nodes that stay fp32, besides the heads.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(source),
        str(target),
        op_types_to_quantize=["MatMul", "Gemm", "Gather", "Attention", "EmbedLayerNormalization"],
        per_channel=True,
        # Seven-bit weights are only needed before AVX512-VNNI, and cost accuracy.
        reduce_range=False,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[*skip, *_small_matmuls(source)],
        extra_options={
            "MatMulConstBOnly": True,
            # Shape inference does not know the fused operators' result types.
            "DefaultTensorType": onnx.TensorProto.FLOAT,
        },
    )
