r"""What the parts of the training bring: short fits of the encoder, each without one of them.

    python bench/bench_parts.py --data open.jsonl.gz --gauge restricted.jsonl.gz \
        --doubtful doubtful.jsonl [--steps 210] [--rows 500] [--threads 2]

Needs the extra `train`. Every fit begins with the base encoder, the same seed and the same number
of steps (4,608 tokens each): the whole recipe; without the contrast corpus, and hence without what
is made from it; with the doubtful rows; without block-causal batches. The networks are measured in
fp32 on held-out families of the corpus and on sources that nothing was fitted on, with full and
with block-causal attention. A full training takes some twelve times as many steps: the table says
what a part is worth early on. Prints Markdown, a row as soon as it is measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from bench_gauge import PAIRINGS, chosen
from bench_weights import Judge, auprc, certain
from tokenizers import Tokenizer

from guardrail.train.batches import Batcher, BatchSettings
from guardrail.train.clean import read_doubtful
from guardrail.train.corpus import (
    Line,
    Wrapper,
    corpus_example,
    expansions,
    read_corpus,
    read_wrappers,
)
from guardrail.train.fit import FitSettings, Progress, fit, keep_memory
from guardrail.train.mixture import Mixture
from guardrail.train.model import base_folder, load_base
from guardrail.train.rows import INDEX, OUTPUTS, Example, Row, example, read_rows
from guardrail.types import UNSAFE

BLOCK = 16


@dataclass(frozen=True, slots=True)
class Part:
    """One fit: what it has of the recipe."""

    name: str
    corpus: bool = True
    cleaned: bool = True
    blocks: bool = True


PARTS = (
    Part("the whole recipe"),
    Part("without the contrast corpus", corpus=False),
    Part("with the doubtful rows", cleaned=False),
    Part("without block-causal batches", blocks=False),
)


@dataclass(frozen=True, slots=True)
class Data:
    """What every fit draws from."""

    rows: Sequence[Row]
    lines: Sequence[Line]
    wrappers: Sequence[Wrapper]
    doubtful: frozenset[str]


def _fitted(part: Part, data: Data, steps: int, threads: int, folder: Path) -> Path:
    """Fit one network; return its checkpoint."""
    torch.manual_seed(7)
    base = base_folder()
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    left_out = data.doubtful if part.cleaned else frozenset()
    examples = [example(r) for r in data.rows if r.split == "train" and r.id not in left_out]
    lines = [line for line in data.lines if not line.dev] if part.corpus else []
    wrappers = [w for w in data.wrappers if not w.dev] if part.corpus else []
    settings = BatchSettings() if part.blocks else BatchSettings(block_share=0.0)
    batches = iter(Batcher(iter(Mixture(examples, lines, wrappers, 7)), tokenizer, settings, 7))
    model = load_base(base, OUTPUTS)

    def on_step(at: Progress) -> None:
        if at.step % 30 == 0:
            done = f"{part.name}: step {at.step} of {steps}, loss {at.loss:.3f}"
            print(f"{done}, {at.tokens_per_s:.0f} tokens/s", file=sys.stderr, flush=True)

    fit(model, batches, FitSettings(steps=steps, threads=threads), folder, on_step=on_step)
    return folder / "checkpoint.pt"


def _measured(name: str, checkpoint: Path, sets: dict[str, list[Example]]) -> str:
    judge, at = Judge(checkpoint), INDEX[UNSAFE]
    cells = []
    for examples in sets.values():
        labels = certain(examples, UNSAFE)
        found = [auprc(labels, judge.judge(examples, b)[:, at])[1] for b in (0, BLOCK)]
        cells.append(f"{found[0]:.3f} ({found[1]:.3f})")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--gauge", type=Path, required=True)
    parser.add_argument("--doubtful", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=210)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    keep_memory()
    data = Data(
        list(read_rows(options.data)),
        read_corpus(),
        read_wrappers(),
        read_doubtful(options.doubtful),
    )
    held = [
        corpus_example(line, *filled)
        for line in data.lines
        if line.dev
        for filled in expansions(line, 1)
    ]
    Random(0).shuffle(held)
    others = list(read_rows(options.gauge))
    sets = {"held-out corpus families": held[: options.rows]} | {
        pairing.name: [example(row) for row in chosen(others, pairing, options.rows)]
        for pairing in PAIRINGS
        if pairing.output == UNSAFE
    }
    print(f"| AUPRC full (blocks of {BLOCK}) | {' | '.join(sets)} |\n|---|" + "---|" * len(sets))
    for part in PARTS:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = _fitted(part, data, options.steps, options.threads, Path(folder))
            print(_measured(part.name, checkpoint, sets), flush=True)


if __name__ == "__main__":
    main()
