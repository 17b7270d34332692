"""A guardrail with the marker classifier and a small policy."""

from __future__ import annotations

import pytest

from guardrail import Guardrail
from guardrail.policy import Policy, parse_policy
from tests.conftest import MarkerClassifier

POLICY = "version: 1\nname: t\nmessage: no way\ncategories: {unsafe: {flag: 0.5, block: 0.9}}"


@pytest.fixture
def policy() -> Policy:
    return parse_policy(POLICY)


@pytest.fixture
def rail(policy: Policy, marker: MarkerClassifier) -> Guardrail:
    return Guardrail(policy, marker)
