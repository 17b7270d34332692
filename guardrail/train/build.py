"""From a fitted network to a bundle: export, fuse, quantise, calibrate, seal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.base import Sample
from guardrail.classifier.batching import feed
from guardrail.classifier.bundle import CALIBRATION, MODEL, TOKENIZER, Bundle, seal
from guardrail.classifier.calibration import Calibration, fit_calibration
from guardrail.classifier.encoder import EncoderClassifier
from guardrail.classifier.pairs import Encoded
from guardrail.classifier.targets import CALIBRATION_SCORES, write_scores
from guardrail.train.export import empty_inputs, export_onnx, fuse
from guardrail.train.model import GuardModel
from guardrail.train.quantise import quantise
from guardrail.train.rows import Example
from guardrail.types import Role

__all__ = ["LIFT", "MAX_TOKENS", "NAME", "OVERLAP_TOKENS", "as_samples", "build", "score_logits"]

NAME = "guardrail-minilm-l6"
MAX_TOKENS = 256
OVERLAP_TOKENS = 32
LIFT = 0.75
"""Share of the highest category of harm in the overall output; chosen on unseen sources."""
CERTAIN = 0.99
"""Least weight of a target that calibration may rest on: labels, not guesses."""


def as_samples(examples: Sequence[Example]) -> list[Sample]:
    """Return what the classifier is given for each example."""
    return [Sample(e.text, Role(e.role), e.prompt) for e in examples]


def score_logits(
    classifier: EncoderClassifier,
    samples: Sequence[Sample],
    on_done: Callable[[int], None] | None = None,
    chunk: int = 256,
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Score samples in chunks, so that progress shows.

    Returns:
        float32 (samples, outputs), uncalibrated.
    """
    parts = []
    for start in range(0, len(samples), chunk):
        part = samples[start : start + chunk]
        parts.append(classifier.logits(part))
        if on_done is not None:
            on_done(len(part))
    return np.concatenate(parts)


def export_graphs(model: GuardModel, work: Path, texts: Sequence[Encoded] = ()) -> Path:
    """Write the fp32, fused and int8 graphs into a work folder; return the int8 one.

    Args:
        model: The fitted network.
        work: The folder.
        texts: By which weights are rounded; see `quantise`.
    """
    work.mkdir(parents=True, exist_ok=True)
    export_onnx(model, work / "plain.onnx")
    config = model.config
    fuse(work / "plain.onnx", work / "fused.onnx", heads=config.heads, hidden=config.hidden)
    empty: Mapping[str, NDArray[Any]] = empty_inputs(config)
    feeds = ({**empty, **feed([text])} for text in texts)
    quantise(work / "fused.onnx", work / "int8.onnx", feeds)
    return work / "int8.onnx"


def build(
    model: GuardModel,
    tokenizer: Path,
    folder: Path,
    work: Path,
    dev: Sequence[Example],
    manifest: Mapping[str, Any],
    on_done: Callable[[int], None] | None = None,
    texts: Sequence[Encoded] = (),
) -> tuple[Bundle, np.ndarray[Any, np.dtype[np.float32]]]:
    """Build a bundle from a fitted network.

    Calibration comes after quantisation and rests on the served graph's own logits.

    Args:
        model: The fitted network.
        tokenizer: Its ``tokenizer.json``.
        folder: The bundle to write.
        work: Where intermediate graphs go and stay.
        dev: Examples to calibrate on.
        manifest: Fields of the manifest besides ``outputs``, ``files`` and the sizes.
        on_done: Called with the number of dev examples scored.
        texts: By which weights are rounded; none of ``dev``.

    Returns:
        The bundle, and the dev logits float32 (dev, outputs).
    """
    graph = export_graphs(model, work, texts)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(graph, folder / MODEL)
    shutil.copyfile(tokenizer, folder / TOKENIZER)
    sizes = {"max_tokens": MAX_TOKENS, "overlap_tokens": OVERLAP_TOKENS}
    fields = {**manifest, "outputs": list(model.outputs), **sizes}
    write_calibration(folder, Calibration.identity(model.outputs))
    seal(folder, fields)
    classifier = EncoderClassifier(Bundle.open(folder))
    logits = score_logits(classifier, as_samples(dev), on_done)
    targets = np.stack([e.targets for e in dev])
    certain = np.stack([(e.weights >= CERTAIN).astype(np.float32) for e in dev])
    roles = [e.role for e in dev]
    calibration = fit_calibration(model.outputs, logits, targets, certain, roles, lift=LIFT)
    write_calibration(folder, calibration)
    chances = np.stack([calibration.apply(z, role) for z, role in zip(logits, roles, strict=True)])
    labels = np.where(certain > 0, (targets >= 0.5).astype(np.int8), np.int8(-1))
    write_scores(folder / CALIBRATION_SCORES, model.outputs, chances, labels)
    seal(folder, fields)
    return Bundle.open(folder), logits


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write a bundle's calibration file."""
    text = json.dumps(calibration.as_json(), indent=1)
    (folder / CALIBRATION).write_text(text + "\n", encoding="utf-8")
