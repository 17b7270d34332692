"""A guardrail with the marker classifier and a small policy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from guardrail import Guardrail
from guardrail.policy import Policy, parse_policy
from tests.conftest import MarkerClassifier

POLICY = "version: 1\nname: t\nmessage: no way\ncategories: {unsafe: {flag: 0.5, block: 0.9}}"

REDACTING = parse_policy(
    POLICY.replace(
        "categories: {",
        "categories: {personal: {detectors: [email, payment_card], action: redact}, ",
    )
)
"""The same with a rule that redacts."""


@pytest.fixture
def policy() -> Policy:
    return parse_policy(POLICY)


@pytest.fixture
def rail(policy: Policy, marker: MarkerClassifier) -> Guardrail:
    return Guardrail(policy, marker)


def drain(stream: Iterator[Any], out: list[Any]) -> None:
    """Collect what comes before an exception."""
    for item in stream:
        out.append(item)  # noqa: PERF402


async def adrain(stream: AsyncIterator[Any], out: list[Any]) -> None:
    async for item in stream:
        out.append(item)  # noqa: PERF401
