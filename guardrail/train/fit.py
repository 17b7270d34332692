"""The loop that fits the network: time-budgeted schedule, weight averaging, checkpoints."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from guardrail.train.batches import Batch
from guardrail.train.model import GuardModel
from guardrail.train.rubrics import RubricBank

__all__ = ["FitSettings", "Progress", "fit", "keep_memory", "loss_of", "rate_at"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How to fit.

    Args:
        minutes: Time budget; the learning rate reaches zero when it is used up.
        steps: Step budget instead of ``minutes``, where not None.
        rate: Peak learning rate of the top layer.
        layer_decay: Factor from each layer to the one below.
        head_rate: Peak learning rate of the heads.
        warmup: Share of the budget in which the rate rises.
        weight_decay: AdamW's, on matrices only.
        category_weight: Weight of the category losses beside the overall one.
        positive_weight: Factor on top for a category that is there: most are rare, and the
            calibration takes back what this adds to the probabilities.
        block_weight: Weight of the distance between a block-causal reading and a full one.
        nominal_examples: Batch size that the loss is scaled to.
        average_decay: Decay of the exponential moving average of the weights.
        checkpoint_minutes: Time between checkpoints.
        mixed: Whether matrix products run in bfloat16.
        seed: Seed of the heads' first weights and of the data order.
        threads: CPU threads, each on its own part of a batch.
    """

    minutes: float = 60.0
    steps: int | None = None
    rate: float = 1e-4
    layer_decay: float = 0.9
    head_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.01
    category_weight: float = 0.3
    positive_weight: float = 2.0
    block_weight: float = 0.5
    nominal_examples: int = 64
    average_decay: float = 0.995
    checkpoint_minutes: float = 3.0
    mixed: bool = True
    seed: int = 7
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a fit stands.

    Args:
        step: Steps done.
        share: Share of the budget that is used.
        loss: Running mean of the loss.
        tokens_per_s: Padded tokens a second of this run.
        examples: Examples seen so far.
    """

    step: int
    share: float
    loss: float
    tokens_per_s: float
    examples: int


def keep_memory() -> None:
    """Tell glibc's allocator to keep freed memory instead of handing it back.

    Large tensors are otherwise mapped and faulted in anew at every step; keeping them made CPU
    training 1.3 to 1.5 times as fast. Does nothing where the C library has no ``mallopt``.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 256 << 20)):
        mallopt(option, value)  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h


def rate_at(share: float, warmup: float) -> float:
    """Return the learning-rate factor: a linear rise, then a linear fall to zero."""
    if share < warmup:
        return max(share / warmup, 0.02)
    return max((1.0 - share) / (1.0 - warmup), 0.0)


def loss_of(
    logits: Tensor, batch: Batch, settings: FitSettings, whole: int | None = None
) -> Tensor:
    """Masked binary cross-entropy of one batch.

    The overall output counts once and each category ``category_weight`` times, more where it
    is there. The sum is
    scaled by the root of the batch's size times the nominal one, a compromise between equal
    steps and equal examples, since batches of long texts hold few.

    Args:
        logits: float32 (batch, outputs).
        batch: Targets and weights.
        settings: The weights of its parts.
        whole: Examples of the whole batch, where this is a part of it.

    Returns:
        float32 scalar.
    """
    each = functional.binary_cross_entropy_with_logits(logits, batch.targets, reduction="none")
    weights = batch.weights.clone()
    weights[:, 1:] *= settings.category_weight
    weights[:, 1:] *= 1.0 + (settings.positive_weight - 1.0) * batch.targets[:, 1:]
    return (each * weights).sum() / ((whole or len(logits)) * settings.nominal_examples) ** 0.5


def _groups(model: GuardModel, s: FitSettings) -> list[dict[str, Any]]:
    depth = len(model.layers)
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name.startswith("head_"):
            rate = s.head_rate
        elif name.startswith("layers."):
            rate = s.rate * s.layer_decay ** (depth - 1 - int(name.split(".")[1]))
        else:
            rate = s.rate * s.layer_decay**depth
        groups.setdefault((rate, parameter.dim() > 1), []).append(parameter)
    return [
        {"params": params, "lr": rate, "peak": rate, "weight_decay": s.weight_decay * matrix}
        for (rate, matrix), params in groups.items()
    ]


class _Average:
    """Exponential moving average of the weights (Polyak and Juditsky 1992, with decay)."""

    def __init__(self, model: GuardModel, decay: float) -> None:
        self.decay = decay
        self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}

    def update(self, model: GuardModel, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                self.weights[name].lerp_(value, 1.0 - decay)


def _save(path: Path, state: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def fit(
    model: GuardModel,
    batches: Iterator[Batch],
    settings: FitSettings,
    folder: Path,
    *,
    resume: bool = False,
    on_step: Callable[[Progress], None] | None = None,
    rubrics: RubricBank | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Progress:
    """Fit a network, which then holds the averaged weights.

    Args:
        model: The network; changed in place.
        batches: Endless batches.
        settings: How to fit.
        folder: Where checkpoints go (``checkpoint.pt``).
        resume: Whether to go on from the checkpoint there, if there is one.
        on_step: Called after each step.
        rubrics: What the rubric head is fitted on; None leaves it as it is.
        clock: Seconds; for the budget.

    Returns:
        Where it ended.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(_groups(model, settings), betas=(0.9, 0.98), fused=True)
    average = _Average(model, settings.average_decay)
    checkpoint = folder / "checkpoint.pt"
    progress, used_s = Progress(0, 0.0, 0.0, 0.0, 0), 0.0
    if resume and checkpoint.is_file():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.weights = state["average"]
        progress, used_s = Progress(**state["progress"]), state["used_s"]
        _log.info("resumed at step %d", progress.step)
    started, saved, tokens = clock(), clock(), 0
    pool = None
    if settings.threads > 1 and device.type == "cpu":
        torch.set_num_threads(1)
        pool = ThreadPoolExecutor(
            settings.threads, initializer=torch.set_num_threads, initargs=(1,)
        )
    model.train()
    for batch in batches:
        elapsed = used_s + clock() - started
        share = _share(settings, progress.step, elapsed)
        if share >= 1.0:
            break
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate_at(share, settings.warmup)
        asked = None if rubrics is None else rubrics.draw(model)
        loss = _step(model, optimizer, batch.to(device), settings, pool, asked)
        tokens += batch.input_ids.numel()
        average.update(model, progress.step)
        speed = tokens / max(clock() - started, 1e-9)
        mean = loss if not progress.step else 0.98 * progress.loss + 0.02 * loss
        seen = progress.examples + len(batch.targets)
        progress = Progress(progress.step + 1, share, mean, speed, seen)
        if on_step is not None:
            on_step(progress)
        if clock() - saved > 60 * settings.checkpoint_minutes:
            saved = clock()
            _save(checkpoint, _state(model, optimizer, average, progress, elapsed))
    model.load_state_dict(average.weights)
    _save(checkpoint, _state(model, optimizer, average, progress, used_s + clock() - started))
    model.eval()
    return progress


def _share(s: FitSettings, step: int, elapsed_s: float) -> float:
    return step / s.steps if s.steps is not None else elapsed_s / (60 * s.minutes)


Asked = tuple[Tensor, list[int]]
"""Embeddings of rubrics, and the output that each asks for."""


def _gradients(
    model: GuardModel, batch: Batch, s: FitSettings, whole: int, asked: Asked | None = None
) -> tuple[float, tuple[Tensor, ...]]:
    """Loss and gradients of one part of a batch of ``whole`` examples."""
    with _precision(batch, s):
        states = model.states(batch.input_ids, batch.token_type_ids, batch.visible)
    logits, _, _ = model.judge(states, batch.pool_mask)
    loss = loss_of(logits, batch, s, whole)
    told = loss.detach()
    if s.block_weight and batch.visible.dim() == 3:
        loss = loss + _block_loss(model, logits, batch, s, whole)
    if asked is not None:
        loss = loss + _rubric_loss(model, states, batch, s, whole, asked)
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return float(told), gradients


def _precision(batch: Batch, s: FitSettings) -> contextlib.AbstractContextManager[None]:
    device = torch.autocast(batch.input_ids.device.type, torch.bfloat16)
    return device if s.mixed else contextlib.nullcontext()


def _block_loss(
    model: GuardModel, logits: Tensor, batch: Batch, s: FitSettings, whole: int
) -> Tensor:
    """Loss of a block-causal reading against what the same weights say with full attention.

    It teaches every output, the unlabelled ones too, to lose little where later text is unseen.
    """
    keys = batch.visible.any(dim=1)
    with torch.no_grad():
        with _precision(batch, s):
            states = model.states(batch.input_ids, batch.token_type_ids, keys)
        targets = torch.sigmoid(model.judge(states, batch.whole_pool)[0])
    each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    each[:, 1:] *= s.category_weight
    return s.block_weight * each.sum() / (whole * s.nominal_examples) ** 0.5


def _rubric_loss(
    model: GuardModel, states: Tensor, batch: Batch, s: FitSettings, whole: int, asked: Asked
) -> Tensor:
    """Loss of the rubric head; the encoder does not feel it, only the head learns."""
    embeddings, columns = asked
    states = model.head_dropout(states.detach().float())
    logits = model.judge_rubrics(states, batch.pool_mask, embeddings)
    targets = batch.targets[:, columns]
    weights = batch.weights[:, columns] * (1.0 + (s.positive_weight - 1.0) * targets)
    each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (each * weights).sum() / (whole * s.nominal_examples) ** 0.5


def _step(
    model: GuardModel,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    s: FitSettings,
    pool: ThreadPoolExecutor | None = None,
    asked: Asked | None = None,
) -> float:
    """One step. With a pool, each of its threads takes a part of the batch.

    Threads that meet once a step, and not in every operator, lose little where other
    processes take their core away; where the machine is idle they are faster as well.
    """
    whole = len(batch.targets)
    if pool is None:
        results = [_gradients(model, batch, s, whole, asked)]
    else:
        parts = [batch.rows(slice(n, None, s.threads)) for n in range(min(s.threads, whole))]
        results = list(pool.map(lambda part: _gradients(model, part, s, whole, asked), parts))
    for number, parameter in enumerate(model.parameters()):
        found = [grads[number] for _, grads in results if grads[number] is not None]
        parameter.grad = functools.reduce(Tensor.add_, found) if found else None
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return sum(loss for loss, _ in results)


def _state(
    model: GuardModel,
    optimizer: torch.optim.Optimizer,
    average: _Average,
    progress: Progress,
    used_s: float,
) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.weights,
        "progress": asdict(progress),
        "used_s": used_s,
    }
