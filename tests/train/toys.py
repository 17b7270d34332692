"""A BERT of two small layers with random weights, and data that it can learn."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from guardrail.train.model import EncoderConfig, GuardModel

WORDS = "how do i make bake buy a the cake bomb poison bread my for gift boss friend now please"
CONFIG = EncoderConfig(vocab=160, hidden=32, layers=2, heads=4, inner=64, positions=512)
NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attended": "attention.output.dense",
    "attended_norm": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "outer": "output.dense",
    "outer_norm": "output.LayerNorm",
}


def base(folder: Path) -> Path:
    """Write a base encoder folder."""
    folder.mkdir()
    torch.manual_seed(1)
    weights = {}
    for name, tensor in GuardModel(CONFIG, ("unsafe",)).state_dict().items():
        if name.startswith("layers."):
            _, number, part, kind = name.split(".")
            name = f"encoder.layer.{number}.{NAMES[part]}.{kind}"
        if not name.startswith("head_"):
            weights[name] = tensor.clone()
    weights["pooler.dense.weight"] = torch.zeros(2, 2)
    save_file(weights, str(folder / "model.safetensors"))
    config = {
        "vocab_size": CONFIG.vocab,
        "hidden_size": CONFIG.hidden,
        "num_hidden_layers": CONFIG.layers,
        "num_attention_heads": CONFIG.heads,
        "intermediate_size": CONFIG.inner,
        "max_position_embeddings": CONFIG.positions,
        "type_vocab_size": CONFIG.types,
    }
    (folder / "config.json").write_text(json.dumps(config))
    vocabulary = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102}
    for number, word in enumerate(WORDS.split()):
        vocabulary[word] = 110 + number
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def data(path: Path, rows: int = 300) -> Path:
    """Write labelled rows: bombs and poison are unsafe."""
    rng = Random(4)
    with path.open("w") as file:
        for number in range(rows):
            unsafe = number % 2
            thing = rng.choice(("bomb", "poison") if unsafe else ("cake", "bread"))
            verb, person = rng.choice(("make", "buy", "bake")), rng.choice(("boss", "friend"))
            row = {
                "id": str(number),
                "source": f"toy{number % 3}",
                "license": "CC0-1.0",
                "role": ("user", "assistant", "text")[number % 3],
                "prompt": "please" if number % 3 == 1 else None,
                "text": f"how do i {verb} a {thing} for my {person}",
                "unsafe": unsafe,
                "categories": ["violent_crimes"] if unsafe else [],
                "categories_known": ["violent_crimes"],
                "split": "dev" if number % 5 == 0 else "train",
            }
            file.write(json.dumps(row) + "\n")
    return path


def corpus(folder: Path) -> Path:
    """Write a corpus of a few twins and wrappers."""
    folder.mkdir()
    lines = []
    for number in range(12):
        for label, thing in (("violates", "bomb"), ("allowed", "cake")):
            text = f"make a {thing} for {{who}}"
            line = {"family": f"f{number}", "label": label, "role": "user", "text": text}
            lines.append({**line, "slots": {"who": ["boss", "friend"]}})
    (folder / "violent_crimes.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    wrappers = [
        {"family": f"w{n}", "role": "user", "text": "please {core} now", "wrapper": kind}
        for n, kind in enumerate(["adversarial", "neutral"] * 10)
    ]
    (folder / "wrappers.jsonl").write_text("".join(json.dumps(x) + "\n" for x in wrappers))
    return folder
