"""Classifiers: texts in, calibrated `Scores` out. They know no HTTP and no actions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from guardrail.classifier.base import Classifier, Sample

if TYPE_CHECKING:
    from guardrail.classifier.encoder import EncoderClassifier

__all__ = ["Classifier", "Sample", "load_classifier"]


def load_classifier(
    bundle: Path | str | None = None, *, threads: int | None = None
) -> EncoderClassifier:
    """Load the embedded classifier, or one from a model folder.

    Args:
        bundle: A model folder; None for the embedded one.
        threads: Threads of one forward pass; None for one for each CPU.

    Returns:
        The classifier, ready to score.

    Raises:
        BundleError: The folder is missing or damaged, or no ONNX Runtime is installed.
    """
    from guardrail.classifier.bundle import Bundle
    from guardrail.classifier.encoder import EncoderClassifier

    return EncoderClassifier(Bundle.open(bundle), threads=threads)
