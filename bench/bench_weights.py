"""One network run two ways: fp32 weights on dev rows and other sources.

    python bench/bench_weights.py --weights checkpoint.pt --data open.jsonl.gz \\
        [--gauge restricted.jsonl.gz] [--rows 1500] [--blocks 16 32]

Needs the extra `train`. Full attention against block-causal attention, in which a token sees its
block and what came before, as a stream that is judged once a block would; AUPRC, and the
difference. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from bench_gauge import PAIRINGS, chosen, label
from numpy.typing import NDArray
from tokenizers import Tokenizer

from guardrail.evaluate.metrics import average_precision
from guardrail.train.batches import collate, encode_example
from guardrail.train.build import CERTAIN
from guardrail.train.corpus import read_corpus, read_wrappers
from guardrail.train.dev import dev_examples
from guardrail.train.model import GuardModel, base_folder, load_base, load_weights
from guardrail.train.rows import INDEX, OUTPUTS, Example, example, read_rows
from guardrail.types import UNSAFE

MAX_TOKENS = 256
Floats = NDArray[np.float64]


class Judge:
    """A network and its tokenizer."""

    def __init__(self, weights: Path) -> None:
        base = base_folder()
        self.model: GuardModel = load_base(base, OUTPUTS).eval()
        load_weights(self.model, weights)
        self.tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def judge(self, examples: Sequence[Example], block: int = 0) -> Floats:
        """Return logits, float64 (examples, outputs)."""
        encoded = [encode_example(self.tokenizer, one, MAX_TOKENS) for one in examples]
        order = sorted(range(len(encoded)), key=lambda n: len(encoded[n].ids))
        found = np.zeros((len(encoded), len(OUTPUTS)))
        for start in range(0, len(order), 32):
            part = order[start : start + 32]
            nothing = [examples[n].targets for n in part]
            batch = collate([encoded[n] for n in part], nothing, nothing, block)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                states = self.model.states(batch.input_ids, batch.token_type_ids, batch.visible)
            with torch.no_grad():
                found[part] = self.model.judge(states, batch.pool_mask)[0].numpy()
        return found


def certain(examples: Sequence[Example], output: str) -> Floats:
    """Return the labels, float64 (examples,); NaN where none is certain."""
    at = INDEX[output]
    return np.array(
        [float(e.targets[at] > 0.5) if e.weights[at] >= CERTAIN else np.nan for e in examples]
    )


def auprc(labels: Floats, scores: Floats) -> tuple[int, float]:
    known = ~np.isnan(labels)
    return int(np.nansum(labels)), average_precision(labels[known], scores[known])


def _by_blocks(
    judge: Judge,
    name: str,
    output: str,
    examples: Sequence[Example],
    labels: Floats,
    blocks: list[int],
) -> None:
    at = INDEX[output]
    positives, full = auprc(labels, judge.judge(examples)[:, at])
    cells = []
    for block in blocks:
        _, found = auprc(labels, judge.judge(examples, block)[:, at])
        cells.append(f"{found:.3f} ({found - full:+.3f})")
    print(
        f"| {name} | {len(examples)} | {positives} | {full:.3f} | {' | '.join(cells)} |", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--gauge", type=Path)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--blocks", type=int, nargs="+", default=[16, 32])
    options = parser.parse_args()
    judge = Judge(options.weights)
    dev = dev_examples(read_rows(options.data), read_corpus(), read_wrappers())
    Random(0).shuffle(dev)
    part = dev[: options.rows]
    heads = " | ".join(f"blocks of {block}" for block in options.blocks)
    print(
        f"| rows | number | positive | full | {heads} |\n|---|---:|---:|---:|"
        + "---|" * len(options.blocks)
    )
    for role in ("", "user", "assistant", "text"):
        ours = [e for e in part if role in ("", e.role)]
        name = f"development, {role}" if role else "development"
        _by_blocks(judge, name, UNSAFE, ours, certain(ours, UNSAFE), options.blocks)
    others = [] if options.gauge is None else list(read_rows(options.gauge))
    for pairing in PAIRINGS if others else ():
        rows = chosen(others, pairing, options.rows)
        labels = np.array([label(row, pairing.output) for row in rows])
        ours = [example(row) for row in rows]
        _by_blocks(judge, pairing.name, pairing.output, ours, labels, options.blocks)


if __name__ == "__main__":
    main()
