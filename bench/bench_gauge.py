"""Bundles on sources that nothing was fitted on: AUPRC, recall at 1% FPR, harmless prompts blocked.

    python bench/bench_gauge.py --data restricted.jsonl.gz [--bundle DIR ...] [--rows 1500]

The file's rows carry the name of their source. Each pairing below asks one question of one or
two sources; the harmful and harmless rows keep the proportions in which they come. Prints
Markdown, a column for each bundle (default: the embedded one).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from guardrail import Guardrail
from guardrail.classifier.bundle import Bundle
from guardrail.classifier.encoder import EncoderClassifier
from guardrail.evaluate.metrics import average_precision, recall_at_fpr
from guardrail.evaluate.rows import Row, read_rows
from guardrail.evaluate.run import score_rows
from guardrail.types import UNSAFE, Action

HARMLESS = 300
"""Harmless prompts that the default policy is asked about."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """One question: does ``output`` tell the positive rows from the others?"""

    name: str
    output: str
    wanted: Callable[[Row], bool]


def _sources(
    *names: str, role: str | None = None, label: int | None = None
) -> Callable[[Row], bool]:
    return lambda r: (
        r.source in names
        and (role is None or r.role == role)
        and (label is None or r.unsafe == label)
    )


def _either(*ways: Callable[[Row], bool]) -> Callable[[Row], bool]:
    return lambda row: any(way(row) for way in ways)


PAIRINGS = (
    Pairing("ToxicChat, train half: real prompts", UNSAFE, _sources("toxicchat_train")),
    Pairing("BeaverTails: red-team prompts", UNSAFE, _sources("beavertails_train_prompts")),
    Pairing(
        "red-team requests against instructions",
        UNSAFE,
        _either(
            _sources("safety_tuned_llamas", role="user", label=1),
            _sources("alpaca", role="user", label=0),
        ),
    ),
    Pairing(
        "harmful against pseudo-harmful requests",
        UNSAFE,
        _either(_sources("do_not_answer", "malicious_instruct", label=1), _sources("phtest")),
    ),
    Pairing("hateful tweets", "hate", _sources("tweeteval_hate")),
    Pairing("offensive tweets", "profanity_toxicity", _sources("tweeteval_offensive")),
    Pairing(
        "hijacking against instructions",
        "prompt_injection",
        _either(_sources("tensor_trust"), _sources("alpaca", role="user", label=0)),
    ),
)


def label(row: Row, output: str) -> float:
    """Return the label that a pairing takes from a row."""
    return float(row.unsafe == 1 if output == UNSAFE else output in row.categories)


def chosen(rows: Sequence[Row], pairing: Pairing, most: int) -> list[Row]:
    """Draw a pairing's rows: the labelled ones, at most so many."""
    found = [
        row
        for row in rows
        if pairing.wanted(row) and (pairing.output != UNSAFE or row.unsafe is not None)
    ]
    Random(0).shuffle(found)
    return found[:most]


def _measured(classifier: EncoderClassifier, rows: list[Row], output: str) -> str:
    table = score_rows(classifier, rows)
    chances = table.probabilities[:, table.outputs.index(output)]
    labels = np.array([label(row, output) for row in rows])
    auprc, recall = average_precision(labels, chances), recall_at_fpr(labels, chances)
    return f"{auprc:.3f} ({recall:.3f})"


def _blocked(folder: str, rows: Sequence[Row]) -> str:
    harmless = [row.text for row in rows if row.source == "phtest"]
    Random(0).shuffle(harmless)
    rail = Guardrail.load("default", bundle=folder)
    actions = [rail.check(text).action for text in harmless[:HARMLESS]]
    return f"{np.mean([action is Action.BLOCK for action in actions]):.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", action="append")
    parser.add_argument("--rows", type=int, default=1500)
    options = parser.parse_args()
    rows = list(read_rows(options.data))
    folders = options.bundle or [str(Bundle.open().folder)]
    models = [EncoderClassifier(Bundle.open(Path(folder))) for folder in folders]
    print("AUPRC (recall at 1% FPR)\n")
    print("| pairing | rows | positive | " + " | ".join(m.model_id for m in models) + " |")
    print("|---|---:|---:|" + "---|" * len(models))
    for pairing in PAIRINGS:
        part = chosen(rows, pairing, options.rows)
        if not part:
            continue
        positive = int(sum(label(row, pairing.output) for row in part))
        cells = " | ".join(_measured(model, part, pairing.output) for model in models)
        print(f"| {pairing.name} | {len(part)} | {positive} | {cells} |", flush=True)
    cells = " | ".join(_blocked(folder, rows) for folder in folders)
    print(f"| pseudo-harmful requests (PHTest) that `default` blocks | {HARMLESS} | 0 | {cells} |")


if __name__ == "__main__":
    main()
