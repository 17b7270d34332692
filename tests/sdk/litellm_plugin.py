"""The LiteLLM guardrail with the marker classifier, named by the test's configuration."""

from __future__ import annotations

from typing import Any

from guardrail.sdk.litellm_guardrail import LiteLLMGuardrail
from tests.conftest import MarkerClassifier
from tests.sdk.conftest import REDACTING


def plugin(**kwargs: Any) -> LiteLLMGuardrail:
    return LiteLLMGuardrail(policy=REDACTING, classifier=MarkerClassifier(), **kwargs)
