"""``guardrail evaluate``: measure a classifier on labelled data, slice by slice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrail.cli.data import calibration_option, format_option, read_data

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
    help="Labelled texts: JSONL, JSON, CSV, TSV (each also .gz) or Parquet; may be repeated.",
)
@format_option
@click.option(
    "--split",
    type=click.Choice(["dev", "train", "all"]),
    default="dev",
    show_default=True,
    help="Which rows to use, where rows name a split.",
)
@click.option("--limit", type=click.IntRange(1), help="Most rows, drawn evenly over the files.")
@click.option("--bundle", type=click.Path(), help="A model folder, in place of the embedded one.")
@calibration_option
@click.option("--compare", type=click.Path(), help="A second model folder to compare with.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for report.md, report.json and, where matplotlib is installed, plots.png.",
)
@click.option("--rounds", default=100, show_default=True, help="Bootstrap resamples.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Probability from which a text counts as flagged.",
)
@click.option(
    "--leave-one-category-out",
    "leave_out",
    is_flag=True,
    help="Measure instead how well each category is told from its definition alone.",
)
@click.option(
    "--shots",
    type=click.IntRange(0, 100),
    default=8,
    show_default=True,
    help="Examples of each kind for --leave-one-category-out.",
)
@click.option("--threads", type=click.IntRange(1, 256), help="Threads; default one for each CPU.")
def evaluate_command(
    files: tuple[Path, ...],
    data_format: str,
    split: str,
    limit: int | None,
    bundle: str | None,
    calibration: Path | None,
    compare: str | None,
    out: Path | None,
    rounds: int,
    threshold: float,
    leave_out: bool,
    shots: int,
    threads: int | None,
) -> None:
    """Measure a model on labelled texts: AUPRC, recall at 1% FPR, ECE and more for each slice.

    Reads rows of this project and the files of common public benchmarks as they are published.

    \b
    guardrail evaluate --data samples-1680.jsonl.gz            # OpenAI's moderation set
    guardrail evaluate --data xstest_prompts.csv --out report/
    guardrail evaluate --data mine.jsonl --split all --compare other-bundle/
    guardrail evaluate --data open.jsonl.gz --leave-one-category-out

    Exit code: 0 done, 4 a file or model that cannot be used.
    """
    from guardrail.evaluate.report import as_json, comparison, markdown, measure, plain
    from guardrail.evaluate.report import compare as compared

    rows = read_data(files, data_format, split, limit)
    if leave_out:
        _leave_out(rows, bundle, shots, rounds, out, threads)
        return
    table = _scored(rows, bundle, calibration, threads, "scoring")
    measured = measure(table, rounds, threshold, one_class=True)
    text = markdown(measured)
    report: Any = as_json(measured)
    if compare is not None:
        other = _scored(rows, compare, None, threads, "scoring the second")
        found = compared(table, other.probabilities, threshold, rounds)
        text += "\n" + comparison(found, threshold)
        report = {"measures": report, "comparison": plain(found)}
    click.echo(text)
    if out is not None:
        _write(out, table, text, report)


def _leave_out(
    rows: list[Row],
    bundle: str | None,
    shots: int,
    rounds: int,
    out: Path | None,
    threads: int | None,
) -> None:
    from dataclasses import asdict

    from guardrail.classifier import load_classifier
    from guardrail.evaluate.leave_out import leave_one_out, left_out_table
    from guardrail.evaluate.report import plain, write_json

    encoder = load_classifier(bundle, threads=threads)
    with click.progressbar(length=len(rows), label="reading") as bar:
        found = leave_one_out(encoder, rows, shots=shots, rounds=rounds, on_done=bar.update)
    text = left_out_table(found, shots)
    click.echo(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "left_out.md").write_text(text, encoding="utf-8")
        write_json(out / "left_out.json", plain([asdict(one) for one in found]))


def _scored(
    rows: list[Row],
    bundle: str | None,
    calibration: Path | None,
    threads: int | None,
    label: str,
) -> Table:
    from guardrail.classifier import load_classifier
    from guardrail.classifier.recalibrated import recalibrate
    from guardrail.evaluate.run import score_rows

    classifier = recalibrate(load_classifier(bundle, threads=threads), calibration)
    with click.progressbar(length=len(rows), label=label) as bar:
        return score_rows(classifier, rows, bar.update)


def _write(out: Path, table: Table, text: str, report: Any) -> None:
    from guardrail.evaluate.plots import draw
    from guardrail.evaluate.report import labelled, slices, write_json

    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(text, encoding="utf-8")
    write_json(out / "report.json", report)
    series = {}
    for name, output, rows in slices(table):
        known, labels = labelled(table, output, rows)
        if name.split(":")[0] in ("overall", "role") and 0 < labels.sum() < len(labels):
            series[name] = (labels, table.probabilities[known, table.outputs.index(output)])
    try:
        draw(series, out / "plots.png")
    except ModuleNotFoundError as error:
        click.echo(f"no plots: {error}", err=True)
