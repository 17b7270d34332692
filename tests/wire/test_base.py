"""The room's surface: names sorted, protocols kept, JSON within bounds."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import guardrail.wire
from guardrail.errors import WireError
from guardrail.wire import WIRES, RefusalStyle
from guardrail.wire import json as wire_json
from tests.wire.samples import REQUESTS

MODULES = ["guardrail.wire"] + [
    f"guardrail.wire.{module.name}" for module in pkgutil.iter_modules(guardrail.wire.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_exists_once(name: str) -> None:
    module = importlib.import_module(name)
    assert len(module.__all__) == len(set(module.__all__))
    assert all(hasattr(module, public) for public in module.__all__)


def test_every_dialect_has_a_sample_request() -> None:
    assert set(REQUESTS) == set(WIRES)
    for name, body in REQUESTS.items():
        assert WIRES[name].read_request(body).segments


def test_styles_are_their_status() -> None:
    assert [style.status for style in RefusalStyle] == [400, 403, 200]


def test_a_body_over_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_json, "MAX_BODY_BYTES", 100)
    with pytest.raises(WireError, match="larger than 100 bytes"):
        WIRES["openai.chat"].read_request(b'{"x":"' + b"a" * 100 + b'"}')


def test_keys_that_are_sentences_are_text() -> None:
    assert list(wire_json.strings({"a b c": {"id": "x", "t": "y"}}, ("id",))) == ["a b c", "y"]
    assert wire_json.carries_text({"n": {"some words": 1}}, ())
    assert not wire_json.carries_text({"n": {"plain": [1, None, True]}}, ())
