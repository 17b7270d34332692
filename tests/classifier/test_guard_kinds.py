"""What is made for each kind of guard."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guardrail.classifier.base import Sample
from guardrail.classifier.cascade import Guard
from guardrail.classifier.guard_kinds import make_judge
from guardrail.errors import BundleError, GuardrailError, SettingsError
from guardrail.policy import GuardKind, GuardSpec


def test_another_bundle_serves_as_a_local_guard(tmp_path) -> None:
    from guardrail.classifier.bundle import Bundle

    folder = Bundle.open().folder
    spec = GuardSpec("l", GuardKind.LOCAL, model=folder.name)
    judge = make_judge(spec, {}, folder.parent)
    texts = [Sample("I will kill you."), Sample("Good morning.")]
    bad, good = Guard(spec, judge).ask(texts, ["violent_crimes"])
    assert bad["violent_crimes"] > good["violent_crimes"]
    with pytest.raises(SettingsError, match="did you mean llama-guard-3-8b"):
        make_judge(replace(spec, form="llama-guard-8b"), {}, tmp_path)
    for name in ("nowhere", "nowhere.gguf", "hf:nowhere"):
        with pytest.raises(BundleError):
            make_judge(replace(spec, model=name), {}, tmp_path)
    assert issubclass(BundleError, GuardrailError)
