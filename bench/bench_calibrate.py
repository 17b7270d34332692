"""How much an own calibration brings, by method and number of labels.

Each source of a labelled file stands for an operator with data of its own: a calibration is fitted
on the first n labels of a random order, and log loss and ECE are measured on the rest. Scores come
from ``guardrail score`` of the same file.

    python bench/bench_calibrate.py --data F --scores S
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from guardrail.classifier.refit import Labels, fit_map, method_for, predict
from guardrail.evaluate.formats import read_any
from guardrail.evaluate.joining import join_scores
from guardrail.evaluate.metrics import ece, log_loss
from guardrail.evaluate.report import Table
from guardrail.types import UNSAFE

METHODS = ("none", "temperature", "platt", "isotonic", "auto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--labels", default="25,50,100,200,400,800")
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    table = join_scores([r for r in read_any(options.data) if r.unsafe is not None], options.scores)
    column = table.outputs.index(UNSAFE)
    sources = np.array(table.sources)
    print("| labels | sources | " + " | ".join(f"{m}: log loss, ECE" for m in METHODS) + " |")
    print("|---:|---:|" + "---|" * len(METHODS))
    for n in map(int, options.labels.split(",")):
        found: dict[str, list[tuple[float, float]]] = {m: [] for m in METHODS}
        used = set()
        for source in sorted(set(table.sources)):
            rows = np.nonzero(sources == source)[0]
            if len(rows) < n + 200:
                continue
            used.add(source)
            for draw in range(options.draws):
                order = np.random.default_rng(draw).permutation(rows)
                fit, rest = (_labels(table, part, column) for part in (order[:n], order[n:]))
                for method in METHODS:
                    chosen = method_for(fit) if method == "auto" else method
                    p = predict(fit_map(fit, chosen), rest)
                    found[method].append((log_loss(rest.labels, p), ece(rest.labels, p)))
        cells = [np.mean(found[m], axis=0) for m in METHODS]
        shown = " | ".join(f"{a:.4f}, {b:.3f}" for a, b in cells)
        print(f"| {n} | {len(used)} | {shown} |")


def _labels(table: Table, rows: np.ndarray, column: int) -> Labels:
    return Labels.of(
        table.probabilities[rows, column],
        table.labels[rows, column],
        [table.roles[i] for i in rows],
        [table.lengths[i] for i in rows],
    )


if __name__ == "__main__":
    main()
