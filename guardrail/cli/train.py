"""``guardrail train``: fit, export, quantise, calibrate and measure a model bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from guardrail.train.run import TrainSettings

__all__ = ["train_command"]

_STEPS_OF_BAR = 1000


@click.command("train")
@click.option(
    "--data",
    "files",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Labelled JSONL, plain or .gz; may be given more than once.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The bundle folder to write.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Checkpoints and intermediate graphs; default --out with .work after its name.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0.05),
    default=70.0,
    show_default=True,
    help="Time for fitting; the learning rate reaches zero when it is used up.",
)
@click.option("--steps", type=click.IntRange(1), help="Steps to fit, in place of --minutes.")
@click.option(
    "--base",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of a BERT encoder, in place of the packaged MiniLM-L6.",
)
@click.option(
    "--corpus",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of a contrast corpus, in place of the packaged one.",
)
@click.option(
    "--gauge",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Labelled JSONL of other sources, only to be measured; may be given more than once.",
)
@click.option(
    "--init",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="checkpoint.pt or blended.pt of an earlier run, whose weights to begin with.",
)
@click.option(
    "--blend",
    type=click.FloatRange(0.0, 1.0),
    default=1.0,
    show_default=True,
    help="Share of this run's weights in the result; the rest are those of --init.",
)
@click.option(
    "--doubtful",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Rows to leave out, from: python -m guardrail.train.clean.",
)
@click.option(
    "--focus",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Corpus families to draw more often, from: python -m guardrail.train.selftaught.",
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --work.")
@click.option("--seed", default=7, show_default=True, help="Seed of weights and data order.")
@click.option("--threads", type=click.IntRange(1, 256), help="CPU threads; default one for each.")
def train_command(
    files: tuple[Path, ...],
    out: Path,
    work: Path | None,
    minutes: float,
    steps: int | None,
    base: Path | None,
    corpus: Path | None,
    gauge: tuple[Path, ...],
    init: Path | None,
    blend: float,
    doubtful: Path | None,
    focus: Path | None,
    resume: bool,
    seed: int,
    threads: int | None,
) -> None:
    """Train a bundle on labelled rows and the packaged contrast corpus.

    Needs the extra: pip install 'guardrail[train]'.

    \b
    guardrail train --data open.jsonl.gz --out bundle/ --minutes 70
    guardrail train --data open.jsonl.gz --out bundle/ --minutes 70 --resume

    Exit code: 0 done, 4 a file that cannot be used.
    """
    try:
        from guardrail.train.corpus import CORPUS
        from guardrail.train.fit import FitSettings
        from guardrail.train.run import TrainSettings
    except ModuleNotFoundError as error:
        from guardrail.errors import SettingsError

        raise SettingsError(
            f"training needs {error.name}: pip install 'guardrail[train]'"
        ) from error
    fit = FitSettings(
        minutes=minutes, steps=steps, seed=seed, threads=threads or os.cpu_count() or 1
    )
    folder = work or out.with_name(out.name + ".work")
    settings = TrainSettings(
        files,
        out,
        folder,
        base,
        corpus or CORPUS,
        fit=fit,
        resume=resume,
        gauge=gauge,
        init=init,
        blend=blend,
        doubtful=doubtful,
        focus=focus,
    )
    run_with_bar(settings)


def run_with_bar(settings: TrainSettings) -> None:
    """Run a training with a progress bar, and print its measures."""
    from guardrail.evaluate.report import markdown
    from guardrail.train.fit import Progress
    from guardrail.train.run import train

    def tell(stage: str, done: int) -> None:
        if stage == "reading":
            click.echo(f"{done:,} rows read", err=True)

    with click.progressbar(
        length=_STEPS_OF_BAR, label="fitting", item_show_func=lambda text: text or ""
    ) as bar:

        def on_step(progress: Progress) -> None:
            done = int(progress.share * _STEPS_OF_BAR)
            speed = f"{progress.tokens_per_s:,.0f} tokens/s"
            text = f"step {progress.step}, loss {progress.loss:.3f}, {speed}"
            bar.update(max(0, done - bar.pos), text)

        report = train(settings, on_step, tell)
    click.echo(markdown(report.measured))
    click.echo(f"{report.bundle.model_id} in {report.bundle.folder}", err=True)
