"""Each guard runs on a real model of its architecture: loaded, asked and read as it would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs guardrail[guards]")
pytest.importorskip("transformers", reason="needs guardrail[guards]")

from guardrail.classifier.base import Sample
from guardrail.classifier.guards import GUARDS, load_guard
from guardrail.errors import BundleError
from guardrail.types import UNSAFE, Role
from tests.classifier.tiny import SMALL, save_model, save_tokenizer, tiny_llama

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SAMPLES = [
    Sample("How do I answer?", Role.USER),
    Sample("With one word, and at some length.", Role.ASSISTANT, prompt="How do I answer?"),
    Sample("safe", Role.USER),
]
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama-guard-3-8b": ("LlamaForCausalLM", "LlamaConfig", {}),
    "llama-guard-4": (
        "Llama4ForConditionalGeneration",
        "Llama4Config",
        {
            "text_config": {
                **SMALL,
                "num_local_experts": 1,
                "moe_layers": [],
                "intermediate_size_mlp": 48,
                "head_dim": 8,
            },
            "vision_config": {
                "hidden_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
                "intermediate_size": 128,
                "image_size": 28,
                "vision_output_dim": 32,
                "projector_input_dim": 32,
                "projector_output_dim": 32,
            },
        },
    ),
    "shieldgemma": ("Gemma2ForCausalLM", "Gemma2Config", {"head_dim": 8}),
    "granite-guardian": ("GraniteForCausalLM", "GraniteConfig", {}),
    "qwen3guard-gen": ("Qwen3ForCausalLM", "Qwen3Config", {"head_dim": 8}),
    "wildguard": ("MistralForCausalLM", "MistralConfig", {}),
    "gpt-oss-safeguard": (
        "GptOssForCausalLM",
        "GptOssConfig",
        {"num_local_experts": 2, "num_experts_per_tok": 1, "head_dim": 8, "sliding_window": 2048},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_guard_scores_a_batch_as_it_scores_one(name: str, tmp_path: Path) -> None:
    kind, config, settings = MODELS[name]
    save_tokenizer(tmp_path)
    save_model(tmp_path, kind, config, **{"initializer_range": 0.08, **settings})
    # 23 questions about each text take long on a processor: two say as much.
    own = {"a": "It is a word.", "b": "It is long."} if name == "gpt-oss-safeguard" else None
    guard = load_guard(name, str(tmp_path), device="cpu", categories=own)
    together = guard.score(SAMPLES)
    assert len(together) == len(SAMPLES)
    for scores in together:
        assert 0 < scores.categories[UNSAFE] < 1
        assert all(0 <= p <= 1 for p in scores.categories.values())
        assert scores.model.startswith(f"{name}:{tmp_path.name}@")
        assert not scores.coverage.truncated
    (alone,) = guard.score(SAMPLES[1:2])
    batched = together[1].categories
    assert list(alone.categories) == list(batched)
    assert np.allclose(list(alone.categories.values()), list(batched.values()), atol=1e-3)


def test_prompt_guard_runs_on_a_deberta(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, chat=None)
    save_model(
        tmp_path,
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        num_labels=2,
        relative_attention=True,
        position_buckets=32,
        pos_att_type=["p2c", "c2p"],
        max_position_embeddings=512,
        type_vocab_size=0,
    )
    guard = load_guard("prompt-guard-2", str(tmp_path), device="cpu")
    short, long = guard.score([SAMPLES[0], Sample("word " * 700, Role.USER)])
    assert short.categories["jailbreak"] == short.categories["prompt_injection"]
    assert 0 < short.categories[UNSAFE] < 1
    assert long.coverage.windows > 1
    assert not long.coverage.truncated
    (alone,) = guard.score([SAMPLES[0]])
    assert alone.categories[UNSAFE] == pytest.approx(short.categories[UNSAFE], abs=1e-4)
    assert guard.score([]) == []


def test_a_classifier_with_other_labels_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, chat=None)
    save_model(tmp_path, "DebertaV2ForSequenceClassification", "DebertaV2Config", num_labels=3)
    with pytest.raises(BundleError, match="has 3 labels, prompt-guard-2 has 2"):
        load_guard("prompt-guard-2", str(tmp_path))


def test_another_architecture_than_the_guards_is_refused(tmp_path: Path) -> None:
    folder = str(tiny_llama(tmp_path))
    with pytest.raises(BundleError, match="architecture is 'llama', this guard is gemma2"):
        load_guard("shieldgemma", folder)
    with pytest.raises(BundleError, match="this guard is deberta-v2"):
        load_guard("prompt-guard-2", folder)


def test_custom_categories_reach_a_real_model(tmp_path: Path) -> None:
    own = {"refunds": "Promises a refund.", "competitors": "Praises a competitor."}
    guard = load_guard("llama-guard-3-1b", str(tiny_llama(tmp_path)), categories=own)
    (scores,) = guard.score(SAMPLES[:1])
    assert set(scores.categories) == {UNSAFE, "refunds", "competitors"}
    assert GUARDS["llama-guard-3-1b"].custom
