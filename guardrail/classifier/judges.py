"""Judges by name: an instruct model here or behind an address, a guard, or the embedded model.

``hf:PATH``, ``gguf:FILE``, ``onnx:FOLDER`` and ``http(s)://HOST/v1#MODEL`` are told what to look
for; ``guard:NAME=PATH`` and the embedded model know what they were trained on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, runtime_checkable
from urllib.parse import urldefrag, urlsplit

import numpy as np

from guardrail.classifier.answers import NO, YES, Prompt
from guardrail.classifier.base import Classifier, Sample
from guardrail.classifier.judge import Judgement, PromptableJudge
from guardrail.classifier.questions import Exchange, Rubric
from guardrail.classifier.scaling import load_scalings
from guardrail.errors import SettingsError
from guardrail.types import UNSAFE

__all__ = ["ClassifierJudge", "Judge", "JudgeOptions", "open_judge", "score_of"]

EDGE: Final = 1e-6
OVERALL: Final = "safety"
"""The built-in rubric that asks for harm of any kind."""


@runtime_checkable
class Judge(Protocol):
    """Something that judges exchanges by rubrics."""

    @property
    def model_id(self) -> str:
        """Name and content hash."""
        ...

    def judge(
        self, exchanges: Sequence[Exchange], rubrics: Sequence[Rubric]
    ) -> list[list[Judgement]]:
        """Judge each exchange by each rubric; see `PromptableJudge.judge`."""
        ...


@dataclass(frozen=True, slots=True)
class ClassifierJudge:
    """A classifier as a judge: of the categories that it was trained on, and of no words.

    Args:
        classifier: The embedded model, or a named guard.
    """

    classifier: Classifier

    @property
    def model_id(self) -> str:
        """The classifier's identity."""
        return self.classifier.model_id

    def judge(
        self, exchanges: Sequence[Exchange], rubrics: Sequence[Rubric]
    ) -> list[list[Judgement]]:
        """Judge each exchange by each rubric.

        Raises:
            SettingsError: A rubric is none that the classifier knows.
        """
        keys = [self._key(rubric) for rubric in rubrics]
        samples = [Sample(e.text, e.role, e.prompt) for e in exchanges]
        out = []
        for scores in self.classifier.score(samples):
            row = []
            for rubric, key in zip(rubrics, keys, strict=True):
                p = scores.categories[key]
                dropped = scores.coverage.total_chars - scores.coverage.scanned_chars
                row.append(
                    Judgement(rubric.key, p, _logit(p), 1.0, scores.coverage.tokens, dropped)
                )
            out.append(row)
        return out

    def _key(self, rubric: Rubric) -> str:
        if rubric.key == OVERALL:
            return UNSAFE
        if rubric.key in self.classifier.categories:
            return rubric.key
        raise SettingsError(
            f"{self.model_id} does not know the rubric {rubric.key!r}: it judges {OVERALL} and "
            "the categories of the taxonomy; name a language model with --model, such as "
            "hf:PATH, gguf:FILE or http://127.0.0.1:8080/v1#NAME"
        )


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """How a judge is opened.

    Args:
        dtype: ``auto``, ``fp32``, ``bf16`` or ``int8``, of a local model.
        device: ``auto``, ``cpu`` or ``cuda``, of a local model.
        calibration: A file that `save_scalings` wrote; of a language model.
        key_env: Name of the variable that holds an endpoint's key.
        timeout_s: Longest time for one answer of an endpoint.
        rubrics: What it looks for as a `Classifier`.
    """

    dtype: str = "auto"
    device: str = "auto"
    calibration: Path | None = None
    key_env: str | None = None
    timeout_s: float = 60.0
    rubrics: tuple[Rubric, ...] = field(default=())


_NONE = JudgeOptions()


def open_judge(model: str | None, options: JudgeOptions = _NONE) -> Judge:
    """Open a judge by name.

    Args:
        model: See the top of this file; None for the embedded model.
        options: How.

    Returns:
        The judge.

    Raises:
        SettingsError: The name is of no kind, or an option does not go with it.
        BundleError: The model cannot be loaded.
        CheckError: The endpoint does not answer with log-probabilities.
    """
    if model is None:
        from guardrail.classifier import load_classifier

        _no_calibration(options, "the embedded model")
        return ClassifierJudge(load_classifier(None))
    kind, _, where = model.partition(":")
    if kind in ("hf", "gguf", "onnx") and where:
        return PromptableJudge.load(
            where,
            dtype=options.dtype,
            device=options.device,
            rubrics=options.rubrics,
            calibration=options.calibration,
        )
    if kind == "guard" and "=" in where:
        from guardrail.classifier.guards import load_guard

        name, _, path = where.partition("=")
        _no_calibration(options, "a named guard")
        return ClassifierJudge(load_guard(name, path, dtype=options.dtype, device=options.device))
    if kind in ("http", "https"):
        return _remote(model, options)
    raise SettingsError(
        f"model {model[:200]!r}: write hf:PATH, gguf:FILE, onnx:FOLDER, guard:NAME=PATH or "
        "http(s)://HOST/v1#MODEL"
    )


def _no_calibration(options: JudgeOptions, what: str) -> None:
    if options.calibration is not None:
        raise SettingsError(f"{what} has a calibration of its own; leave out the file")


def _remote(model: str, options: JudgeOptions) -> PromptableJudge:
    from guardrail.classifier.endpoint import Endpoint
    from guardrail.classifier.remote import RemoteModel

    try:
        url, name = urldefrag(model)
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"model {model[:200]!r}: not a URL; write http(s)://HOST/v1#MODEL")
    if parts.username or parts.password:
        raise SettingsError("--model: leave out user and password; name the key with --key-env")
    if not name:
        raise SettingsError(f"model {model[:200]!r}: name the model behind a #, such as {url}#NAME")
    key = None
    if options.key_env is not None:
        key = os.environ.get(options.key_env, "").strip()
        if not key:
            raise SettingsError(f"the variable {options.key_env} is not set; set it to the key")
    endpoint = Endpoint(url, key, timeout_s=options.timeout_s, retries=2, connections=4)
    remote = RemoteModel(endpoint, name)
    remote.answers([Prompt("Is Paris in France? ", "Answer yes or no.")], [YES, NO])  # a probe
    scalings = load_scalings(options.calibration, name) if options.calibration else {}
    return PromptableJudge(remote, options.rubrics, scalings)


def score_of(row: Sequence[Judgement], rubrics: Sequence[Rubric]) -> float:
    """Return how good an exchange is by its judgements, for ranking.

    The mean logit of its calibrated probabilities; of harmful rubrics with the sign turned.
    """
    signs = (-1.0 if rubric.harmful else 1.0 for rubric in rubrics)
    values = [sign * _logit(j.probability) for sign, j in zip(signs, row, strict=True)]
    return float(np.mean(values))


def _logit(p: float) -> float:
    q = min(max(p, EDGE), 1 - EDGE)
    return float(np.log(q / (1 - q)))
