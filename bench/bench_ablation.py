"""What the data's parts bring, told by a linear proxy that fits in seconds.

    python bench/bench_ablation.py --data open.jsonl.gz --gauge restricted.jsonl.gz
        [--doubtful doubtful.jsonl]

Needs the extras `train` and `test`. A logistic regression on hashed words and word pairs is fitted
on the training rows alone, with the contrast corpus, and without doubtful rows; it is measured on
the held-out corpus families and on sources that nothing was fitted on. A proxy tells which way a
part of the data pulls, not how far it pulls the encoder: a fit of that takes an hour and more.
Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from bench_gauge import PAIRINGS, chosen, label
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier

from guardrail.evaluate.metrics import average_precision
from guardrail.train.clean import read_doubtful
from guardrail.train.corpus import Line, corpus_example, expansions, fill, read_corpus
from guardrail.train.rows import INDEX, Example, example, read_rows
from guardrail.types import UNSAFE

AT = INDEX[UNSAFE]
FILLINGS = 3
CORPUS_SHARE = 0.3
WORDS = HashingVectorizer(ngram_range=(1, 2), n_features=2**20, alternate_sign=False)


def _text(one: Example) -> str:
    before = f"{one.prompt} => " if one.prompt else ""
    return f"{one.role} {before}{one.text}"


def _sides(examples: Sequence[Example]) -> list[Example]:
    return [e for e in examples if e.weights[AT] >= 0.99]


def _fit(rows: Sequence[Example], corpus: Sequence[Example]) -> SGDClassifier:
    everything = [*rows, *corpus]
    weights = np.ones(len(everything))
    if corpus:
        share = CORPUS_SHARE / (1 - CORPUS_SHARE)
        weights[len(rows) :] = share * len(rows) / len(corpus)
    judge = SGDClassifier(loss="log_loss", alpha=1e-6, random_state=0)
    features = WORDS.transform([_text(e) for e in everything])
    return judge.fit(features, [e.targets[AT] > 0.5 for e in everything], sample_weight=weights)


def _auprc(judge: SGDClassifier, examples: Sequence[Example], labels: Sequence[float]) -> float:
    scores = judge.decision_function(WORDS.transform([_text(e) for e in examples]))
    return average_precision(np.array(labels), scores)


def _corpus(lines: Sequence[Line], dev: bool) -> list[Example]:
    rng = Random(0)
    found = []
    for line in lines:
        if line.dev == dev and dev:
            found += [corpus_example(line, *filled) for filled in expansions(line, 2)]
        elif line.dev == dev:
            times = FILLINGS if line.slots else 1
            found += [corpus_example(line, *fill(line, rng)) for _ in range(times)]
    return _sides(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--gauge", type=Path, required=True)
    parser.add_argument("--doubtful", type=Path)
    options = parser.parse_args()
    rows = [r for r in read_rows(options.data) if r.split == "train"]
    doubtful = frozenset() if options.doubtful is None else read_doubtful(options.doubtful)
    plain = _sides([example(r) for r in rows])
    clean = _sides([example(r) for r in rows if r.id not in doubtful])
    lines = read_corpus()
    ours, held = _corpus(lines, dev=False), _corpus(lines, dev=True)
    judges = {"rows alone": _fit(plain, []), "and the contrast corpus": _fit(plain, ours)}
    if doubtful:
        judges["and without doubtful rows"] = _fit(clean, ours)
    print("| measured on | positive | " + " | ".join(judges) + " |")
    print("|---|---:|" + "---:|" * len(judges))
    others = list(read_rows(options.gauge))
    tests = [("held-out corpus families", held, [float(e.targets[AT]) for e in held])]
    for pairing in PAIRINGS:
        if pairing.output == UNSAFE:
            part = chosen(others, pairing, 3000)
            labels = [label(r, UNSAFE) for r in part]
            tests.append((pairing.name, [example(r) for r in part], labels))
    for name, examples, labels in tests:
        cells = [f"{_auprc(judge, examples, labels):.3f}" for judge in judges.values()]
        print(f"| {name} | {int(sum(labels))} of {len(labels)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
