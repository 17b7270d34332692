"""Shared fixtures: a classifier for unit tests, the embedded one, and a real llama.cpp server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from guardrail.classifier.base import Sample
from guardrail.policy.schema import CATEGORY_KEYS
from guardrail.types import Coverage, Scores

ROOT = Path(__file__).parent.parent

# The same examples in every run, so that a run says something of the change and not of its luck;
# `pytest --hypothesis-profile=default` draws new ones.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


class MarkerClassifier:
    """Scores by marker words, for tests of what happens around a classifier.

    ``BAD`` is certain harm, ``MEH`` is between the thresholds, ``BOOM`` raises.
    """

    model_id = "marker@0"
    categories = CATEGORY_KEYS[1:]

    def __init__(self, bad: str = "BAD") -> None:
        self.bad = bad
        self.seen: list[Sample] = []
        self.batches: list[int] = []

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        self.seen += samples
        self.batches.append(len(samples))
        if any("BOOM" in sample.text for sample in samples):
            raise RuntimeError("boom")
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> Scores:
        text = sample.context + sample.text
        probability = 0.99 if re.search(self.bad, text) else 0.7 if "MEH" in text else 0.01
        n = len(sample.text)
        return Scores(
            dict.fromkeys(CATEGORY_KEYS, probability), self.model_id, Coverage(n, n, n // 4 + 1, 1)
        )


@pytest.fixture(autouse=True, scope="session")
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what a started `guardrail serve` records out of the user's own state folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def marker() -> MarkerClassifier:
    return MarkerClassifier()


@pytest.fixture(scope="session")
def llama_url() -> Iterator[str]:
    """The base URL of a real llama.cpp server with a real model, started once."""
    pytest.importorskip("xllamacpp")
    command = [sys.executable, str(ROOT / "bench" / "llama_server.py")]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
