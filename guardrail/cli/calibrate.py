"""``guardrail calibrate``: fit a calibration of the operator's own, and show what it brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from guardrail.cli.data import format_option, read_data

if TYPE_CHECKING:
    from guardrail.evaluate.calibrating import Calibrated
    from guardrail.evaluate.report import Table
    from guardrail.evaluate.rows import Row

__all__ = ["calibrate_command"]


@click.command("calibrate")
@click.option(
    "--data",
    "files",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Labelled texts; may be given more than once.",
)
@format_option
@click.option(
    "--split",
    type=click.Choice(["dev", "train", "all"]),
    default="all",
    show_default=True,
    help="Which rows to use, where rows name a split.",
)
@click.option("--limit", type=click.IntRange(1), help="Most rows, drawn evenly over the files.")
@click.option("--bundle", type=click.Path(), help="A model folder, in place of the embedded one.")
@click.option(
    "--scores",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Probabilities by id, as `guardrail score` writes them, in place of scoring the data.",
)
@click.option("--model", help="Identity of the classifier that made --scores.")
@click.option(
    "--method",
    type=click.Choice(["auto", "temperature", "platt", "isotonic"]),
    default="auto",
    show_default=True,
    help="How; auto goes by the number of labels.",
)
@click.option("--folds", type=click.IntRange(2, 100), default=5, show_default=True)
@click.option("--rounds", default=300, show_default=True, help="Bootstrap resamples.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The calibration to write, for --calibration of serve, check, score and evaluate.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A reliability diagram to write as PNG; needs matplotlib.",
)
@click.option("--threads", type=click.IntRange(1, 256), help="Threads; default one for each CPU.")
def calibrate_command(
    files: tuple[Path, ...],
    data_format: str,
    split: str,
    limit: int | None,
    bundle: str | None,
    scores: Path | None,
    model: str | None,
    method: str,
    folds: int,
    rounds: int,
    out: Path,
    plot: Path | None,
    threads: int | None,
) -> None:
    """Fit a calibration to labels of your own; a hundred will do.

    What it brings is measured by cross-validation, on rows that it was not fitted on, with
    bootstrap intervals; what is saved is fitted on all rows, and belongs to this model only.

    \b
    {"text": "…", "unsafe": 1}                      a line for each label, or
    {"text": "…", "violates": true, "category": "hate", "role": "assistant", "prompt": "…"}

    \b
    guardrail calibrate --data labels.jsonl --out own.json --plot own.png
    guardrail serve --calibration own.json …

    Exit code: 0 done, 4 a file or model that cannot be used.
    """
    from guardrail.evaluate.calibrating import calibrate, changes_table, folds_of

    if (scores is None) != (model is None):
        raise click.UsageError("--scores and --model go together: whose probabilities are they?")
    if scores is not None and bundle is not None:
        raise click.UsageError("give --bundle or --scores, not both")
    rows = read_data(files, data_format, split, limit)
    table, identity = (
        _joined(rows, scores, model) if scores and model else _scored(rows, bundle, threads)
    )
    dealt = folds_of([row.text for row in rows], [row.unsafe for row in rows], folds)
    chosen = None if method == "auto" else method
    found = calibrate(table, dealt, identity, method=chosen, rounds=rounds)
    click.echo(changes_table(found.changes))
    _show(table, found, plot)
    saved = found.recalibration.save(out)
    gains = sum(change.shown for change in found.changes)
    click.echo(
        f"{gains} of {len(found.changes)} slices gain more than chance explains (*, log loss, "
        f"cross-validated in {folds} folds, 95% intervals)"
    )
    if not found.changes[0].shown:
        click.secho(
            f"no gain is shown on {found.changes[0].slice}: more labels, or the calibration that "
            "the model comes with",
            fg="yellow",
        )
    click.echo(f"{out}: for model {saved.model}; use it with --calibration {out}")


def _scored(rows: list[Row], bundle: str | None, threads: int | None) -> tuple[Table, str]:
    from guardrail.classifier import load_classifier
    from guardrail.evaluate.run import score_rows

    classifier = load_classifier(bundle, threads=threads)
    with click.progressbar(length=len(rows), label="scoring") as bar:
        return score_rows(classifier, rows, bar.update), classifier.model_id


def _joined(rows: Sequence[Row], scores: Path, model: str) -> tuple[Table, str]:
    from guardrail.evaluate.joining import join_scores

    return join_scores(rows, scores), model


def _show(table: Table, found: Calibrated, plot: Path | None) -> None:
    from guardrail.evaluate.plots import draw_reliability
    from guardrail.evaluate.report import labelled
    from guardrail.evaluate.terminal import diagram

    output = found.changes[0].output
    column = table.outputs.index(output)
    known, labels = labelled(table, output, np.ones(len(table.roles), dtype=bool))
    series = {
        "as it came": (labels, table.probabilities[known, column]),
        "calibrated, on rows not fitted on": (labels, found.after[known, column]),
    }
    for name, (truth, chances) in series.items():
        click.echo(diagram(truth, chances, f"{output}, {name}"))
    if plot is not None:
        try:
            draw_reliability(series, plot)
        except (ModuleNotFoundError, OSError) as error:  # the calibration is worth more
            click.echo(f"no plot: {error}", err=True)
