"""One classifier for all tests of this room; loading it is the slow part."""

from __future__ import annotations

import pytest

from guardrail.classifier.bundle import Bundle
from guardrail.classifier.encoder import EncoderClassifier, Limits


@pytest.fixture(scope="session")
def embedded() -> EncoderClassifier:
    return EncoderClassifier(Bundle.open(), threads=1, limits=Limits(max_windows=3))
