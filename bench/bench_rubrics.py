"""Rubrics outside the taxonomy: AUPRC and recall at 1 % FPR by number of examples, and fit time.

    python bench/bench_rubrics.py [--seeds 5] [--bundle DIR]

The rubrics and texts are those of the bundled policies. For each draw the named number of
examples of each kind is fitted on; what is judged are texts of the rubric that were not drawn,
the texts of all other rubrics, and the allowed texts of the taxonomy's tests. Prints Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np

from guardrail.classifier import load_classifier
from guardrail.classifier.labels import read_labels
from guardrail.classifier.rubrics import Backdrop, fit_head
from guardrail.evaluate.metrics import average_precision, recall_at_fpr
from guardrail.policy import Examples, Rule, bundled, bundled_names

SHOTS = (0, 4, 8, 16, 32)
HELD = 8
"""Texts of each kind that are held back at every number of examples."""


def rubrics() -> dict[str, tuple[Rule, list[str], list[str]]]:
    """Return each bundled rubric with all its violating and allowed texts."""
    found = {}
    for name in bundled_names():
        policy = bundled(name)
        assert policy.file is not None
        for rule in (rule for rule in policy.rules if rule.rubric):
            bad, good = list(rule.examples.violates), list(rule.examples.allowed)
            for test in policy.tests:
                for row in read_labels(Path(policy.file).parent / test):
                    if row.category == rule.category:
                        (bad if row.violates else good).append(row.text)
            # A row of the tests may be an example of the policy that is marked as a known gap.
            found[rule.category] = (rule, list(dict.fromkeys(bad)), list(dict.fromkeys(good)))
    return found


def ordinary() -> list[str]:
    """Return the allowed texts of the taxonomy's tests."""
    policy = bundled("default")
    assert policy.file is not None
    rows = read_labels(Path(policy.file).parent / policy.tests[0])
    return [row.text for row in rows if not row.violates]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--bundle")
    options = parser.parse_args()
    model = load_classifier(options.bundle)
    everything, plain = rubrics(), model.embed(ordinary())
    embedded = {
        k: (model.embed(bad), model.embed(good)) for k, (_, bad, good) in everything.items()
    }
    started = time.perf_counter()
    backdrop = Backdrop.of(model)
    backdrop_s = time.perf_counter() - started
    print(f"model {model.model_id}; backdrop embedded in {backdrop_s:.2f} s, once\n")
    print("| rubric | examples of each kind | AUPRC | recall at 1 % FPR | fit, s |")
    print("|---|---:|---:|---:|---:|")
    totals: dict[int, list[tuple[float, float, float]]] = {n: [] for n in SHOTS}
    for key, (rule, bad, good) in everything.items():
        others = np.vstack([plain, *(np.vstack(e) for k, e in embedded.items() if k != key)])
        for shots in SHOTS:
            rows = []
            for seed in range(options.seeds):
                rng = np.random.default_rng(seed)
                i, j = rng.permutation(len(bad)), rng.permutation(len(good))
                held_bad, held_good = i[-HELD:], j[-HELD:]
                drawn = Examples(
                    tuple(bad[n] for n in i[: min(shots, len(bad) - HELD)]),
                    tuple(good[n] for n in j[: min(shots, len(good) - HELD)]),
                )
                started = time.perf_counter()
                fit = fit_head(dataclasses.replace(rule, examples=drawn), model, backdrop)
                seconds = time.perf_counter() - started
                judged = [embedded[key][0][held_bad], embedded[key][1][held_good], others]
                scores = fit.head.probability(np.vstack(judged))
                labels = np.zeros(len(scores), dtype=int)
                labels[:HELD] = 1
                rows.append(
                    (average_precision(labels, scores), recall_at_fpr(labels, scores), seconds)
                )
            means = tuple(float(x) for x in np.mean(rows, axis=0))
            totals[shots].append(means)  # type: ignore[arg-type]
            print(
                f"| {key} | {shots} | {means[0]:.3f} | {means[1]:.3f} | {means[2]:.2f} |",
                flush=True,
            )
    for shots, rows in totals.items():
        ap, recall, seconds = np.mean(rows, axis=0)
        print(f"| **mean** | {shots} | {ap:.3f} | {recall:.3f} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
