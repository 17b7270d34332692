"""Finds rows whose overall label is doubtful: two judges agree that it is wrong.

One judge is a linear model of words, cross-validated, so that it never saw the row that it
judges. The other is an earlier bundle. That one may have been fitted on the row; where it still
contradicts the label, the row did not convince it. Neither is an annotator: a doubtful row is
left out of training, and never relabelled.

``python -m guardrail.train.clean --data open.jsonl.gz --bundle DIR --out doubtful.jsonl``
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import click
import numpy as np
from numpy.typing import NDArray

from guardrail.errors import DataError
from guardrail.train.rows import Row, read_rows

__all__ = ["CleanSettings", "doubtful_rows", "linear_chances", "read_doubtful", "summary"]

_CHARS, _PROMPT_CHARS = 600, 400


@dataclass(frozen=True, slots=True)
class CleanSettings:
    """When a label is doubtful.

    Args:
        model: Least probability that the bundle gives the other label.
        linear: Least probability that the linear model gives it.
        folds: Parts of the cross-validation.
        most: Largest share of a source's rows of one label that is left out, the most doubtful
            first: where more seems wrong, the source means another thing by its label.
    """

    model: float = 0.75
    linear: float = 0.5
    folds: int = 5
    most: float = 0.15


def _shown(row: Row) -> str:
    return f"{row.prompt[:_PROMPT_CHARS]} => {row.text}" if row.prompt else row.text


def linear_chances(rows: Sequence[Row], folds: int) -> NDArray[np.float64]:
    """Judge each row by a linear model that was fitted on the other folds.

    Rows of one prompt, or of like beginnings, share a fold.

    Args:
        rows: Rows with an overall label.
        folds: Parts.

    Returns:
        float64 (rows,): probability that the row is unsafe.
    """
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier

    words = HashingVectorizer(ngram_range=(1, 2), n_features=2**20, alternate_sign=False)
    features = words.transform([f"{row.role} {_shown(row)}" for row in rows])
    labels = np.array([row.unsafe for row in rows])
    fold = np.array([crc32((row.prompt or row.text)[:40].lower().encode()) % folds for row in rows])
    chances = np.full(len(rows), labels.mean())
    for number in range(folds):
        rest, here = fold != number, fold == number
        if here.any() and len(set(labels[rest])) == 2:
            judge = SGDClassifier(loss="log_loss", alpha=1e-6, random_state=0)
            judge.fit(features[rest], labels[rest])
            chances[here] = judge.predict_proba(features[here])[:, 1]
    return chances


def doubtful_rows(
    rows: Sequence[Row],
    model: NDArray[np.float64],
    linear: NDArray[np.float64],
    settings: CleanSettings,
) -> list[int]:
    """Return the positions of the rows whose label both judges contradict.

    Args:
        rows: Rows with an overall label.
        model: float64 (rows,): the bundle's probability that the row is unsafe.
        linear: float64 (rows,): the linear model's.
        settings: When a label is doubtful.
    """
    labels = np.array([row.unsafe for row in rows])
    against = np.where(labels == 1, 1.0 - model, model)
    beside = np.where(labels == 1, 1.0 - linear, linear)
    found = np.flatnonzero((against >= settings.model) & (beside >= settings.linear))
    sizes = Counter((row.source, row.unsafe) for row in rows)
    kept: list[int] = []
    taken: Counter[tuple[str, int | None]] = Counter()
    for at in found[np.argsort(-(against + beside)[found], kind="stable")]:
        side = rows[at].source, rows[at].unsafe
        if taken[side] < settings.most * sizes[side]:
            taken[side] += 1
            kept.append(int(at))
    return kept


def read_doubtful(path: Path) -> frozenset[str]:
    """Read the ids of doubtful rows.

    Raises:
        DataError: A line is no object with an id.
    """
    ids = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            ids.add(str(json.loads(line)["id"]))
        except (ValueError, KeyError, TypeError) as error:
            fix = "write it with python -m guardrail.train.clean"
            raise DataError(f"{path}:{number}: no id ({error!r}); {fix}") from error
    return frozenset(ids)


def summary(rows: Sequence[Row], doubtful: Sequence[int]) -> str:
    """Return a Markdown table: by source and label, how many rows there are and were doubted."""
    whole = Counter((row.source, row.unsafe) for row in rows)
    taken = Counter((rows[at].source, rows[at].unsafe) for at in doubtful)
    lines = ["| source | label | rows | doubtful | share |", "|---|---|---:|---:|---:|"]
    for (source, label), count in sorted(taken.items(), key=lambda item: -item[1]):
        of = whole[source, label]
        name = "unsafe" if label else "harmless"
        lines.append(f"| {source} | {name} | {of:,} | {count:,} | {count / of:.1%} |")
    return "\n".join(lines)


def bundle_chances(
    folder: Path, rows: Sequence[Row], tell: Callable[[int], None]
) -> NDArray[np.float64]:
    """Judge the beginning of each row by a bundle.

    Returns:
        float64 (rows,): probability that the row is unsafe.
    """
    from guardrail.classifier.bundle import Bundle
    from guardrail.classifier.encoder import EncoderClassifier
    from guardrail.evaluate.run import as_sample

    classifier = EncoderClassifier(Bundle.open(folder))
    chances = np.zeros(len(rows))
    # Of like length together, so that little is padded.
    order = sorted(range(len(rows)), key=lambda at: len(rows[at].text))
    for start in range(0, len(order), 512):
        part = order[start : start + 512]
        cut = [
            replace(
                rows[at],
                text=rows[at].text[:_CHARS],
                prompt=(rows[at].prompt or "")[:_PROMPT_CHARS] or None,
            )
            for at in part
        ]
        scores = classifier.score([as_sample(row) for row in cut])
        chances[part] = [one.categories["unsafe"] for one in scores]
        tell(len(part))
    return chances


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--bundle", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False))
def main(data: Path, bundle: Path, out: Path) -> None:
    """List the training rows whose overall label two judges doubt; prints a table by source."""
    settings = CleanSettings()
    rows = [r for r in read_rows(data) if r.split == "train" and r.unsafe is not None]
    if not rows:
        raise click.ClickException(f"{data}: no row of split train has a label")
    linear = linear_chances(rows, settings.folds)
    with click.progressbar(length=len(rows), label="scoring") as bar:
        model = bundle_chances(bundle, rows, bar.update)
    found = doubtful_rows(rows, model, linear, settings)
    with out.open("w", encoding="utf-8") as file:
        for at in found:
            told = {"model": round(float(model[at]), 3), "linear": round(float(linear[at]), 3)}
            file.write(json.dumps({"id": rows[at].id, "unsafe": rows[at].unsafe, **told}) + "\n")
    click.echo(summary(rows, found))
    click.echo(f"{len(found):,} of {len(rows):,} rows in {out}", err=True)


if __name__ == "__main__":
    main()
