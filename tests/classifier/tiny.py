"""Tiny random language models of real architectures, with a tokenizer trained on the spot."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = (
    "yes Yes no No safe unsafe Safe Unsafe Controversial S1 S2 S10 S11 S14 harmful request response"
    " the a user assistant text message policy content category violates answer with one word"
)
SPECIALS = (
    *("<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"),
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<|header_start|>", "<|header_end|>", "<|eot|>", "<start_of_turn>", "<end_of_turn>"),
    *("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    *("<|start|>", "<|message|>", "<|channel|>", "<|end|>"),
)


@lru_cache
def trained() -> str:
    """Return a byte-level BPE tokenizer as JSON, trained on a few words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = [w for word in WORDS.split() for w in (word, f" {word}", f"\n{word}")]
    tokenizer.train_from_iterator(lines * 3, trainer)
    return str(tokenizer.to_str())


def save_tokenizer(folder: Path, *, chat: str | None = CHAT) -> None:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(trained()),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=list(SPECIALS[4:]),
    )
    if chat:
        fast.chat_template = chat
    fast.save_pretrained(folder)


SMALL: dict[str, Any] = {
    "vocab_size": 480,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
}


def save_model(folder: Path, kind: str, config: str, **settings: Any) -> Path:
    """Save a random model: ``kind`` and ``config`` name classes of transformers."""
    import torch
    import transformers

    torch.manual_seed(7)
    made = getattr(transformers, config)(**{**SMALL, **settings})
    getattr(transformers, kind)(made).eval().save_pretrained(folder)
    return folder


def tiny_llama(folder: Path, *, chat: str | None = CHAT) -> Path:
    save_tokenizer(folder, chat=chat)
    return save_model(folder, "LlamaForCausalLM", "LlamaConfig")


def set_field(folder: Path, file: str, **fields: Any) -> None:
    """Change fields of a JSON file of a model folder."""
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
