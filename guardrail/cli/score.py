"""``guardrail score``: score a file of texts into another."""

from __future__ import annotations

import time
from pathlib import Path

import click

from guardrail.cli.data import calibration_option

__all__ = ["score_command"]


@click.command("score")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSONL, plain or .gz: id, text, and where known prompt and role.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="JSONL to write."
)
@click.option("--bundle", type=click.Path(), help="A model folder, in place of the embedded one.")
@calibration_option
@click.option(
    "--batch-tokens",
    type=click.IntRange(64, 65536),
    default=4096,
    show_default=True,
    help="Padded tokens of one run of the model.",
)
@click.option("--threads", type=click.IntRange(1, 256), help="Threads; default one for each CPU.")
@click.option(
    "--resume/--restart",
    default=True,
    show_default=True,
    help="Go on after the lines that --out already holds, or overwrite it.",
)
@click.option("--skip-bad", is_flag=True, help="Pass over input lines that cannot be read.")
def score_command(
    data: Path,
    out: Path,
    bundle: str | None,
    calibration: Path | None,
    batch_tokens: int,
    threads: int | None,
    resume: bool,
    skip_bad: bool,
) -> None:
    """Score every line of a JSONL file, with calibrated probabilities.

    Input lines are {"id", "text", "prompt"?, "role"?}; role is user, assistant, system, tool or
    text, and when left out it is assistant where a prompt is given, else text. Output lines are
    {"id", "unsafe": p, "categories": {key: p}}. A stopped run goes on where it stopped.

    \b
    guardrail score --data texts.jsonl --out scores.jsonl

    Exit code: 0 done, 4 a file or model that cannot be used.
    """
    from guardrail.classifier.bundle import Bundle
    from guardrail.classifier.encoder import EncoderClassifier, Limits
    from guardrail.classifier.recalibrated import recalibrate
    from guardrail.errors import DataError
    from guardrail.evaluate.scoring import score_file

    if not data.is_file():
        raise DataError(f"{data}: no such file; name a JSONL file with --data")
    encoder = EncoderClassifier(
        Bundle.open(bundle), threads=threads, limits=Limits(batch_tokens=batch_tokens)
    )
    classifier = recalibrate(encoder, calibration)
    started = time.perf_counter()
    with click.progressbar(length=data.stat().st_size, label="scoring", show_pos=False) as bar:
        summary = score_file(
            classifier, data, out, restart=not resume, skip_bad=skip_bad, on_bytes=bar.update
        )
    seconds = max(time.perf_counter() - started, 1e-9)
    click.echo(
        f"{summary.scored:,} scored, {summary.resumed:,} kept from before, {summary.bad:,} bad "
        f"lines skipped, {summary.truncated:,} too long to be scored wholly; "
        f"{summary.tokens / seconds:,.0f} tokens/s; "
        f"{out} by {classifier.model_id}",
        err=True,
    )
