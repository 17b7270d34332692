r"""Bundles on the development set, key by key: AUPRC, and calibration error cross-fitted.

    python bench/bench_dev.py --data open.jsonl.gz [--bundle DIR ...] [--every 1] \
        [--plot keys.svg] [--curves curves.png] [--rubrics]

Needs the extra `train`. The set is what a training calibrates on: the dev rows of the data, the
held-out families of the contrast corpus, held-out requests in held-out wrappers, held-out orders
in held-out documents. Each bundle is calibrated anew on one half and measured on the other.
`--rubrics` measures the last bundle's rubric head, each key's definition being the rubric, beside
the key's own output. Prints Markdown, columns for each bundle.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.bundle import Bundle
from guardrail.classifier.encoder import EncoderClassifier
from guardrail.evaluate.metrics import average_precision, ece, recall_at_fpr
from guardrail.evaluate.plots import draw
from guardrail.taxonomy import CATEGORIES, KEYS
from guardrail.train.build import CERTAIN, as_samples, score_logits
from guardrail.train.corpus import read_corpus, read_wrappers
from guardrail.train.dev import dev_examples
from guardrail.train.gate import cross_fitted
from guardrail.train.rows import INDEX, Example, read_rows
from guardrail.types import UNSAFE

INJECTION = "prompt_injection"
LENGTHS = (0, 50, 100, 200, 400, 800, 1600, 1 << 30)
"""Edges of the length buckets, in characters."""


def slices(dev: Sequence[Example]) -> dict[str, tuple[str, NDArray[np.bool_]]]:
    """Return for each slice the output that is measured, and its rows."""
    roles = np.array([e.role for e in dev])
    groups = np.array([e.group for e in dev])
    sizes = np.array([len(e.text) for e in dev])
    every = np.ones(len(dev), dtype=bool)
    found: dict[str, tuple[str, NDArray[np.bool_]]] = {"overall": (UNSAFE, every)}
    found |= {f"role {r}": (UNSAFE, roles == r) for r in ("user", "assistant", "text")}
    found |= {"requests in wrappers": (UNSAFE, groups == "wrapped/user")}
    found |= {key: (key, every) for key in KEYS}
    found["documents with and without an order"] = (INJECTION, groups == "injected/text")
    found["injection, role text"] = (INJECTION, (roles == "text") & (groups != "injected/text"))
    found["injection, role user"] = (INJECTION, roles == "user")
    at = INDEX[INJECTION]
    against = [not e.positive or bool(e.weights[at] * e.targets[at] > 0.5) for e in dev]
    found["injection against harmless texts"] = (INJECTION, np.array(against))
    for low, high in pairwise(LENGTHS):
        here = (sizes >= low) & (sizes < high)
        found[f"{low} to {high} characters" if high < 1 << 30 else f"from {low}"] = (UNSAFE, here)
    return found


def _columns(folder: Path, dev: Sequence[Example]) -> tuple[str, Any]:
    bundle = Bundle.open(folder)
    logits = score_logits(EncoderClassifier(bundle), as_samples(dev))
    return bundle.model_id, cross_fitted(dev, logits, bundle.outputs, bundle.calibration.lift)


def _cell(table: Any, output: str, rows: NDArray[np.bool_]) -> tuple[int, int, str]:
    at = table.outputs.index(output)
    known = rows & ~np.isnan(table.labels[:, at])
    labels, chances = table.labels[known, at], table.probabilities[known, at]
    if not labels.any() or labels.all():
        return int(known.sum()), int(labels.sum()), "–"
    found = average_precision(labels, chances), recall_at_fpr(labels, chances)
    cell = f"{found[0]:.3f} | {found[1]:.3f} | {ece(labels, chances):.3f}"
    return int(known.sum()), int(labels.sum()), cell


def _rubrics(folder: Path, dev: Sequence[Example]) -> None:
    """Print each key's AUPRC by the rubric head, and whether the head was fitted without it."""
    bundle = Bundle.open(folder)
    classifier, samples = EncoderClassifier(bundle), as_samples(dev)
    rubrics = classifier.embed([CATEGORIES[key].definition for key in KEYS])[:, -1]
    parts = [samples[n : n + 256] for n in range(0, len(samples), 256)]
    asked = np.concatenate([classifier.rubric_logits(part, rubrics) for part in parts])
    own = score_logits(classifier, samples)
    held = set(bundle.manifest["training"].get("rubrics_held_out", ()))
    print(
        "| rubric | positive | never heard of | rubric head | own output |\n"
        "|---|---:|---|---:|---:|"
    )
    for column, key in enumerate(KEYS):
        known = np.array([e.weights[INDEX[key]] >= CERTAIN for e in dev])
        labels = np.array([float(e.targets[INDEX[key]] > 0.5) for e in dev])[known]
        found = average_precision(labels, asked[known, column])
        usual = average_precision(labels, own[known, INDEX[key]])
        mark = "yes" if key in held else ""
        print(f"| {key} | {int(labels.sum())} | {mark} | {found:.3f} | {usual:.3f} |")


def _plot(scored: Sequence[tuple[str, Any]], path: Path) -> None:
    """Draw each key's AUPRC, one bar for each bundle, sorted by the last one's."""
    from matplotlib.figure import Figure

    every = np.ones(len(scored[0][1].roles), dtype=bool)
    found = {key: [float(_cell(t, key, every)[2][:5]) for _, t in scored] for key in KEYS}
    keys = sorted(found, key=lambda key: found[key][-1])
    figure = Figure(figsize=(7.5, 7.0), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(scored)
    for number, (name, _) in enumerate(scored):
        places = np.arange(len(keys)) + number * height
        axes.barh(places, [found[key][number] for key in keys], height, label=name)
    axes.set_yticks(np.arange(len(keys)) + 0.4 - height / 2, keys)
    axes.set(xlabel="AUPRC on the development set", xlim=(0, 1))
    axes.axvline(0.7, color="grey", linestyle=":")
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path)


def _curves(table: Any, dev: Sequence[Example], path: Path) -> None:
    """Draw precision and recall, ROC and reliability of `unsafe`, overall and by role."""
    at = table.outputs.index(UNSAFE)
    series = {}
    for name, (_, rows) in slices(dev).items():
        if name == "overall" or name.startswith("role "):
            known = rows & ~np.isnan(table.labels[:, at])
            series[name] = (table.labels[known, at], table.probabilities[known, at])
    draw(series, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", action="append")
    parser.add_argument("--every", type=int, default=1, help="use each so many examples")
    parser.add_argument("--plot", type=Path, help="an SVG or PNG with a bar for each key")
    parser.add_argument("--curves", type=Path, help="a PNG with the last bundle's curves")
    parser.add_argument("--rubrics", action="store_true", help="measure the rubric head instead")
    options = parser.parse_args()
    dev = dev_examples(read_rows(options.data), read_corpus(), read_wrappers())[:: options.every]
    folders = [Path(f) for f in options.bundle or [str(Bundle.open().folder)]]
    if options.rubrics:
        _rubrics(folders[-1], dev)
        return
    scored = [_columns(folder, dev) for folder in folders]
    heads = " | ".join(f"{name}: AUPRC | R@1% | ECE" for name, _ in scored)
    print(f"| slice | rows | positive | {heads} |")
    print("|---|---:|---:|" + "---:|---:|---:|" * len(scored))
    for name, (output, rows) in slices(dev).items():
        cells = [_cell(table, output, rows) for _, table in scored]
        texts = " | ".join(cell if cell != "–" else "– | – | –" for *_, cell in cells)
        print(f"| {name} | {cells[0][0]} | {cells[0][1]} | {texts} |")
    if options.plot is not None:
        _plot(scored, options.plot)
    if options.curves is not None:
        _curves(scored[-1][1], dev, options.curves)


if __name__ == "__main__":
    main()
