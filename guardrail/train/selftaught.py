"""The self-taught loop: what the model gets wrong in the contrast corpus, so that more is written.

A round is: score every line with the current model, count what it gets wrong by key and family,
list the worst families as work for the writer, write more families of their kind, fit again with
`--focus` on the listed ones. No labels come from people: the rubric makes the pairs. Families
that are held out are counted, never listed, or the measure would become the lesson.

``python -m guardrail.train.selftaught --bundle DIR --out worklist.jsonl --rounds rounds.json``
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import click
import numpy as np

from guardrail.classifier.base import Classifier, Sample
from guardrail.errors import DataError
from guardrail.evaluate.metrics import average_precision
from guardrail.train.corpus import BENIGN, CORPUS, Line, fill, read_corpus
from guardrail.types import UNSAFE, Role

__all__ = ["KeyRound", "Round", "judge", "read_focus", "score_round", "table", "worklist"]

_CHUNK = 256


@dataclass(frozen=True, slots=True)
class KeyRound:
    """How a model does on one key's held-out lines.

    Args:
        key: The key.
        lines: Held-out lines of its file.
        accuracy: Share on the right side of the threshold that suits its training lines best.
        auprc: Average precision.
        train_accuracy: The same accuracy on the training families.
    """

    key: str
    lines: int
    accuracy: float
    auprc: float
    train_accuracy: float


@dataclass(frozen=True, slots=True)
class Round:
    """One round.

    Args:
        model: Name and content hash of the model.
        lines: Corpus lines at that time.
        accuracy: Mean of the keys' held-out accuracies.
        keys: The keys.
    """

    model: str
    lines: int
    accuracy: float
    keys: tuple[KeyRound, ...]


def judge(
    classifier: Classifier, lines: Sequence[Line], seed: int = 0
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Give each line its key's probability; a benign line that of being unsafe.

    Args:
        classifier: The model.
        lines: The lines; slots are filled once.
        seed: Seed of the fillings.

    Returns:
        float64 (lines,).
    """
    rng = Random(seed)  # noqa: S311
    filled = [fill(line, rng) for line in lines]
    samples = [
        Sample(text, Role(line.role), prompt)
        for line, (text, prompt) in zip(lines, filled, strict=True)
    ]
    chances = np.zeros(len(lines))
    for start in range(0, len(lines), _CHUNK):
        scores = classifier.score(samples[start : start + _CHUNK])
        for at, one in enumerate(scores, start):
            key = lines[at].key
            chances[at] = one.categories[UNSAFE if key == BENIGN else key]
    return chances


def _thresholds(
    lines: Sequence[Line], chances: np.ndarray[Any, np.dtype[np.float64]]
) -> dict[str, float]:
    """For each key the threshold that parts its training lines best."""
    best: dict[str, float] = {}
    for key in {line.key for line in lines}:
        here = [n for n, line in enumerate(lines) if line.key == key and not line.dev]
        labels = np.array([lines[n].violates for n in here])
        if key == BENIGN or labels.all() or not labels.any():
            best[key] = 0.5
            continue
        options = np.quantile(chances[here], np.linspace(0.02, 0.98, 97))
        right = [((chances[here] >= t) == labels).mean() for t in options]
        best[key] = float(options[int(np.argmax(right))])
    return best


def score_round(
    lines: Sequence[Line], chances: np.ndarray[Any, np.dtype[np.float64]], model: str
) -> Round:
    """Measure a round on the held-out families."""
    limits = _thresholds(lines, chances)
    right = np.array(
        [(p >= limits[line.key]) == line.violates for line, p in zip(lines, chances, strict=True)]
    )
    keys = []
    for key in sorted(limits):
        held = [n for n, line in enumerate(lines) if line.key == key and line.dev]
        rest = [n for n, line in enumerate(lines) if line.key == key and not line.dev]
        if not held or not rest:
            continue
        labels = np.array([float(lines[n].violates) for n in held])
        auprc = average_precision(labels, chances[held]) if labels.any() else float("nan")
        keys.append(
            KeyRound(key, len(held), float(right[held].mean()), auprc, float(right[rest].mean()))
        )
    accuracy = float(np.mean([one.accuracy for one in keys])) if keys else float("nan")
    return Round(model, len(lines), accuracy, tuple(keys))


def worklist(
    lines: Sequence[Line], chances: np.ndarray[Any, np.dtype[np.float64]], most: int
) -> list[dict[str, Any]]:
    """List the training families that the model gets wrong, the worst first.

    Args:
        lines: Corpus lines.
        chances: float64 (lines,).
        most: Most families.

    Returns:
        For each: ``key``, ``family``, ``error`` (mean distance on the wrong side of the key's
        threshold) and the ``wrong`` lines with their label, role, text and probability.
    """
    limits = _thresholds(lines, chances)
    families: dict[tuple[str, str], list[tuple[float, dict[str, Any]]]] = defaultdict(list)
    sizes: dict[tuple[str, str], int] = defaultdict(int)
    for line, chance in zip(lines, chances, strict=True):
        if line.dev:
            continue
        name = line.key, line.family
        sizes[name] += 1
        if (chance >= limits[line.key]) != line.violates:
            label = "violates" if line.violates else "allowed"
            told = {"label": label, "role": line.role, "text": line.text, "p": round(chance, 3)}
            families[name].append((abs(chance - limits[line.key]), told))
    found: list[dict[str, Any]] = [
        {
            "key": key,
            "family": family,
            "error": round(sum(e for e, _ in wrong) / sizes[key, family], 4),
            "wrong": [told for _, told in wrong],
        }
        for (key, family), wrong in families.items()
    ]
    return sorted(found, key=lambda one: -one["error"])[:most]


def read_focus(path: Path) -> frozenset[tuple[str, str]]:
    """Read the families of a worklist: (key, family).

    Raises:
        DataError: A line has no key and family.
    """
    found = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            raw = json.loads(line)
            found.add((str(raw["key"]), str(raw["family"])))
        except (ValueError, KeyError, TypeError) as error:
            fix = "write it with python -m guardrail.train.selftaught"
            raise DataError(f"{path}:{number}: no key and family ({error!r}); {fix}") from error
    return frozenset(found)


def table(rounds: Sequence[Round]) -> str:
    """Return rounds as a Markdown table, a row for each key."""
    names = " | ".join(f"round {n}" for n in range(len(rounds)))
    marks = "---:|" * len(rounds)
    lines = [f"| held-out accuracy (AUPRC) | {names} |", f"|---|{marks}"]
    for key in sorted({one.key for r in rounds for one in r.keys}):
        cells = []
        for one in rounds:
            found = next((k for k in one.keys if k.key == key), None)
            cells.append("–" if found is None else f"{found.accuracy:.3f} ({found.auprc:.3f})")
        lines.append(f"| {key} | {' | '.join(cells)} |")
    lines.append(f"| **mean** | {' | '.join(f'{r.accuracy:.3f}' for r in rounds)} |")
    return "\n".join(lines)


def _read_rounds(path: Path) -> list[Round]:
    if not path.is_file():
        return []
    raw = json.loads(path.read_text(encoding="utf-8"))
    return [Round(**{**one, "keys": tuple(KeyRound(**k) for k in one["keys"])}) for one in raw]


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--corpus", default=CORPUS, type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--rounds", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--most", default=200, show_default=True, help="Most families to list.")
def main(bundle: Path | None, corpus: Path, out: Path, rounds: Path | None, most: int) -> None:
    """Score the corpus, list the families that go wrong, record the round."""
    from guardrail.classifier.bundle import Bundle
    from guardrail.classifier.encoder import EncoderClassifier

    classifier = EncoderClassifier(None if bundle is None else Bundle.open(bundle))
    lines = read_corpus(corpus)
    chances = judge(classifier, lines)
    found = worklist(lines, chances, most)
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found)
    out.write_text(text, encoding="utf-8")
    past = [] if rounds is None else _read_rounds(rounds)
    past.append(score_round(lines, chances, classifier.model_id))
    if rounds is not None:
        rounds.write_text(json.dumps([asdict(r) for r in past], indent=1) + "\n", encoding="utf-8")
    click.echo(table(past))
    click.echo(f"{len(found)} families in {out}", err=True)


if __name__ == "__main__":
    main()
