"""``guardrail evaluate``: measure a bundle on labelled data, slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from guardrail.evaluate.report import Table
    from guardrail.evaluate.rows import Row

__all__ = ["evaluate_command"]


@click.command("evaluate")
@click.option(
    "--data",
    "files",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Labelled JSONL, plain or .gz; may be given more than once.",
)
@click.option(
    "--split",
    type=click.Choice(["dev", "train", "all"]),
    default="dev",
    show_default=True,
    help="Which rows to use.",
)
@click.option("--limit", type=click.IntRange(1), help="Most rows, drawn evenly over the files.")
@click.option("--bundle", type=click.Path(), help="A model folder, in place of the embedded one.")
@click.option("--compare", type=click.Path(), help="A second model folder to compare with.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for report.md, report.json and, where matplotlib is installed, plots.png.",
)
@click.option("--rounds", default=100, show_default=True, help="Bootstrap resamples.")
@click.option("--threads", type=click.IntRange(1, 256), help="Threads; default one for each CPU.")
def evaluate_command(
    files: tuple[Path, ...],
    split: str,
    limit: int | None,
    bundle: str | None,
    compare: str | None,
    out: Path | None,
    rounds: int,
    threads: int | None,
) -> None:
    r"""Measure a model on labelled rows: AUPRC, recall at 1% FPR, ECE and more for each slice.

    \b
    guardrail evaluate --data open.jsonl.gz --out report/
    guardrail evaluate --data mine.jsonl --split all --compare other-bundle/

    Exit code: 0 done, 4 a file or model that cannot be used.
    """
    from guardrail.evaluate.report import compare as compared
    from guardrail.evaluate.report import markdown, measure

    rows = _rows(files, split, limit)
    table = _scored(rows, bundle, threads, "scoring")
    measured = measure(table, rounds)
    text = markdown(measured)
    if compare is not None:
        other = _scored(rows, compare, threads, "scoring the second")
        text += "\n" + _differences(compared(table, other.probabilities))
    click.echo(text)
    if out is not None:
        _write(out, table, text, rounds)


def _rows(files: Sequence[Path], split: str, limit: int | None) -> list[Row]:
    from guardrail.errors import DataError
    from guardrail.evaluate.rows import read_rows

    rows = [row for path in files for row in read_rows(path) if split in ("all", row.split)]
    if not rows:
        raise DataError(f"{files[0]}: no rows of split {split}; pass --split all")
    return rows if limit is None else rows[:: max(1, len(rows) // limit)][:limit]


def _scored(rows: list[Row], bundle: str | None, threads: int | None, label: str) -> Table:
    from guardrail.classifier import load_classifier
    from guardrail.evaluate.run import score_rows

    classifier = load_classifier(bundle, threads=threads)
    with click.progressbar(length=len(rows), label=label) as bar:
        return score_rows(classifier, rows, bar.update)


def _differences(found: list[dict[str, Any]]) -> str:
    lines = ["| slice | rows | AUPRC | of the second | difference | flipped at 0.5 |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    lines.extend(
        "| {slice} | {rows} | {auprc_a:.3f} | {auprc_b:.3f} | {difference:+.3f} "
        "| {flipped:.3f} |".format(**one)
        for one in found
    )
    return "\n".join(lines) + "\n"


def _write(out: Path, table: Table, text: str, rounds: int) -> None:
    import numpy as np

    from guardrail.evaluate.plots import draw
    from guardrail.evaluate.report import as_json, measure, slices, write_json

    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(text, encoding="utf-8")
    write_json(out / "report.json", as_json(measure(table, rounds)))
    series = {}
    for name, output, rows in slices(table):
        column = table.outputs.index(output)
        labels = table.labels[rows, column]
        known = ~np.isnan(labels)
        if name.split(":")[0] in ("overall", "role") and 0 < labels[known].sum() < known.sum():
            series[name] = (labels[known], table.probabilities[rows, column][known])
    try:
        draw(series, out / "plots.png")
    except ModuleNotFoundError as error:
        click.echo(f"no plots: {error}", err=True)
