"""A classifier with a calibration of the operator's own on top of what it comes with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.base import Classifier, Sample
from guardrail.classifier.bundle import Bundle
from guardrail.classifier.recalibration import Recalibration
from guardrail.types import Scores

__all__ = ["RecalibratedClassifier", "RecalibratedEncoder", "check_fit", "recalibrate"]


@runtime_checkable
class _Encoder(Classifier, Protocol):
    """The embedded classifier, as far as it is wrapped here."""

    @property
    def bundle(self) -> Bundle: ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def score_and_embed(
        self, samples: Sequence[Sample]
    ) -> tuple[list[Scores], list[NDArray[np.float32]]]: ...


T = TypeVar("T", bound=Classifier)


class RecalibratedClassifier:
    """Maps another classifier's probabilities.

    Args:
        inner: What scores.
        recalibration: Fitted on that very classifier.
    """

    def __init__(self, inner: Classifier, recalibration: Recalibration) -> None:
        self._inner = inner
        self.recalibration = recalibration
        self._model_id = f"{inner.model_id}+calibration@{recalibration.digest[:12]}"

    @property
    def model_id(self) -> str:
        """The inner identity and a hash of the calibration."""
        return self._model_id

    @property
    def categories(self) -> tuple[str, ...]:
        """The inner classifier's categories."""
        return self._inner.categories

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch and recalibrate it."""
        pairs = zip(samples, self._inner.score(samples), strict=True)
        return [self._mapped(sample, scores) for sample, scores in pairs]

    def _mapped(self, sample: Sample, scores: Scores) -> Scores:
        chars = len(sample.context) + len(sample.text)
        chances = self.recalibration.apply(scores.categories, sample.role.value, chars)
        return replace(scores, categories=chances, model=self._model_id)


class RecalibratedEncoder(RecalibratedClassifier):
    """The same for the embedded classifier, whose embeddings carry a policy's own heads.

    Args:
        inner: The encoder.
        recalibration: Fitted on that very encoder.
    """

    def __init__(self, inner: _Encoder, recalibration: Recalibration) -> None:
        super().__init__(inner, recalibration)
        self._encoder = inner

    @property
    def bundle(self) -> Bundle:
        """The bundle that the encoder runs."""
        return self._encoder.bundle

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 (texts, layers, hidden); see the encoder."""
        return self._encoder.embed(texts)

    def score_and_embed(
        self, samples: Sequence[Sample]
    ) -> tuple[list[Scores], list[NDArray[np.float32]]]:
        """Score a batch, recalibrate it, and embed it in the same pass."""
        found, states = self._encoder.score_and_embed(samples)
        return [self._mapped(s, one) for s, one in zip(samples, found, strict=True)], states


def recalibrate(classifier: T, path: Path | str | None) -> T | RecalibratedClassifier:
    """Put an own calibration on a classifier.

    Args:
        classifier: What scores.
        path: A file that ``guardrail calibrate`` wrote; None for none.

    Returns:
        The classifier, wrapped where there is a calibration.

    Raises:
        BundleError: The file cannot be used, or was fitted on another model.
    """
    if path is None:
        return classifier
    found = Recalibration.load(path)
    found.require(classifier.model_id, str(path))
    if isinstance(classifier, _Encoder):
        return RecalibratedEncoder(classifier, found)
    return RecalibratedClassifier(classifier, found)


def check_fit(path: Path | str | None, bundle: Path | str | None) -> None:
    """Refuse an own calibration of another model, before anything is started.

    Args:
        path: A file that ``guardrail calibrate`` wrote; None for none.
        bundle: The model folder; None for the embedded one.

    Raises:
        BundleError: The file cannot be used, or was fitted on another model.
    """
    if path is not None:
        Recalibration.load(path).require(Bundle.open(bundle).model_id, str(path))
