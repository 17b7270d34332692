from __future__ import annotations

import dataclasses
import math

import pytest

from guardrail.stream import Mode, StreamSettings


def test_the_defaults_hold_and_are_frozen() -> None:
    settings = StreamSettings()
    assert settings.mode is Mode.HOLD
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.first_chars = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_chars", 0),
        ("stride_chars", 19),
        ("growth", 0.99),
        ("growth", math.nan),
        ("growth", math.inf),
        ("lookahead_chars", -1),
        ("context_chars", -1),
        ("max_hold_ms", 0),
        ("max_hold_bytes", 0),
        ("max_in_flight", 0),
        ("mode", "hold"),
    ],
)
def test_a_bad_number_is_refused_by_the_name_of_its_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: .*use"):
        StreamSettings(**{field: value})  # type: ignore[arg-type]


def test_the_documented_worst_case_of_the_default_cost_is_true() -> None:
    settings = StreamSettings()
    least = settings.stride_chars - settings.stride_chars // 8
    assert (least + settings.lookahead_chars + settings.context_chars) / least <= 2.5
