"""``guardrail judge``: judge texts by rubrics, and measure a judge."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from guardrail.types import Role

if TYPE_CHECKING:
    from guardrail.classifier.judge import Judgement
    from guardrail.classifier.judges import Judge
    from guardrail.classifier.questions import Rubric

__all__ = ["judge_command", "model_options", "opened", "run_file"]

MAX_CHARS = 1_000_000
Command = TypeVar("Command", bound=Callable[..., Any])

_MODEL = (
    click.option(
        "-m",
        "--model",
        help="hf:PATH, gguf:FILE, onnx:FOLDER, guard:NAME=PATH or http(s)://HOST/v1#MODEL; "
        "the embedded model if not given, which knows only safety and the taxonomy.",
    ),
    click.option(
        "-r",
        "--rubric",
        "names",
        multiple=True,
        help="safety (default), correctness, faithfulness, helpfulness, tone, a category of the "
        "taxonomy, or a description in words. May be given more than once.",
    ),
    click.option(
        "--calibration",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A calibration that --fit wrote; refused where the model is another.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "fp32", "bf16", "int8"]),
        default="auto",
        show_default=True,
        help="Number format of a local model: auto is bf16 on CUDA, else fp32.",
    ),
    click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto."),
    click.option("--key-env", help="Name of the variable with the endpoint's API key."),
)


def model_options(command: Command) -> Command:
    """Add the options that say who judges by what."""
    for option in reversed(_MODEL):
        command = option(command)
    return command


def opened(
    model: str | None, names: tuple[str, ...], how: dict[str, Any]
) -> tuple[Judge, list[Rubric]]:
    """Open the judge and find the rubrics."""
    from guardrail.classifier.judges import JudgeOptions, open_judge
    from guardrail.classifier.questions import rubric_of

    rubrics = [rubric_of(name) for name in names or ("safety",)]
    return open_judge(model, JudgeOptions(**how)), rubrics


def run_file(
    run: Callable[..., Any], judge: Judge, rubrics: list[Rubric], data: Path, out: Path, **how: Any
) -> None:
    """Run a judge over a file, with progress, and say what was done."""
    from guardrail.errors import DataError

    if not data.is_file():
        raise DataError(f"{data}: no such file; name a JSONL file")
    with click.progressbar(
        length=data.stat().st_size, label="judging", show_pos=False, file=sys.stderr
    ) as bar:
        done = run(judge, rubrics, data, out, on_bytes=bar.update, **how)
    click.echo(
        f"{done.judged:,} judged, {done.resumed:,} kept from before, {done.bad:,} bad lines "
        f"skipped; {judge.model_id}; {out}",
        err=True,
    )


@click.command("judge")
@click.argument("text", required=False)
@click.option("--prompt", help="The user turn before the text.")
@click.option("--context", help="What a faithful answer rests on.")
@click.option("--reference", help="A correct answer.")
@click.option(
    "--role",
    type=click.Choice([r.value for r in Role]),
    default="assistant",
    show_default=True,
    help="Who wrote the text.",
)
@model_options
@click.option(
    "--data",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSONL, plain or .gz: id, text, and where known prompt, context, reference, role, label.",
)
@click.option(
    "--pairs",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSONL, plain or .gz: id, chosen, rejected, and where known prompt.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="JSONL to write, for files."
)
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="JSON of the measures."
)
@click.option(
    "--fit",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a calibration that the labels of --data give.",
)
@click.option("--limit", type=click.IntRange(1), help="Most lines of a file.")
@click.option(
    "--resume/--restart",
    default=True,
    show_default=True,
    help="Go on after the lines that --out already holds, or overwrite it.",
)
@click.option("--skip-bad", is_flag=True, help="Pass over input lines that cannot be read.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def judge_command(
    text: str | None,
    prompt: str | None,
    context: str | None,
    reference: str | None,
    role: str,
    model: str | None,
    names: tuple[str, ...],
    data: Path | None,
    pairs: Path | None,
    out: Path | None,
    report: Path | None,
    fit: Path | None,
    limit: int | None,
    resume: bool,
    skip_bad: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Judge one TEXT, or a file of them, by rubrics: how likely is it that it matches each?

    A language model is asked each rubric as a question and read by the probability of yes, in
    one forward pass. Of labelled or paired data a report says how right and how sure it is.

    \b
    guardrail judge "I will hurt you."
    guardrail judge -m gguf:model.gguf -r tone -r "It names a competitor." "No idea, moron."
    guardrail judge -m hf:./model -r correctness --prompt "6*7?" --reference 42 "It is 41."
    guardrail judge -m http://127.0.0.1:8080/v1#smol --pairs pairs.jsonl.gz --out scored.jsonl

    Exit code: 0 done, 4 a file or model that cannot be used.
    """
    one = text is not None
    if sum((one, data is not None, pairs is not None)) != 1:
        raise click.UsageError("give one of TEXT, --data FILE and --pairs FILE")
    if not one and out is None:
        raise click.UsageError("name the file to write with --out")
    if fit is not None and data is None:
        raise click.UsageError("--fit takes --data with labels")
    judge, rubrics = opened(model, names, how)
    if text is not None:
        from guardrail.classifier.questions import Exchange

        exchange = Exchange(text[:MAX_CHARS], Role(role), prompt, context, reference)
        _show(judge.judge([exchange], rubrics)[0], judge.model_id, as_json)
        return
    assert out is not None  # refused above
    from guardrail.evaluate.judging import judge_file, pairs_file

    bounds = {"restart": not resume, "skip_bad": skip_bad, "limit": limit}
    if pairs is not None:
        run_file(pairs_file, judge, rubrics, pairs, out, **bounds)
        _pairs_report(out, report)
    elif data is not None:
        run_file(judge_file, judge, rubrics, data, out, **bounds)
        _labels_report(out, rubrics, judge.model_id, report, fit)


def _show(row: list[Judgement], model_id: str, as_json: bool) -> None:
    if as_json:
        found = {
            j.rubric: {"probability": j.probability, "logit": j.logit, "answered": j.answered}
            for j in row
        }
        click.echo(json.dumps({"model": model_id, "rubrics": found}, ensure_ascii=False))
        return
    for j in row:
        bar = "█" * round(j.probability * 20)
        note = "" if j.answered >= 0.5 else f"  only {j.answered:.0%} of its answers are yes or no"
        note += "  (too long: its middle was not read)" if j.dropped else ""
        click.echo(f"  {j.rubric:<24} {j.probability:6.3f}  {bar:<20}{note}".rstrip())
    click.echo(f"  model {model_id}")


def _pairs_report(out: Path, report: Path | None) -> None:
    from guardrail.evaluate.preferences import preferences, read_lines, words

    lines = read_lines(out, "margin")
    if not lines:
        return
    found = preferences(lines)
    click.echo(words(found))
    if report is not None:
        _write(report, found.as_json())


def _write(report: Path, body: dict[str, Any]) -> None:
    from guardrail.errors import DataError
    from guardrail.evaluate.report import plain, write_json

    try:
        write_json(report, plain(body))
    except OSError as error:
        raise DataError(f"{report}: {error.strerror or error}; name a writable file") from error


def _labels_report(
    out: Path, rubrics: list[Rubric], model_id: str, report: Path | None, fit: Path | None
) -> None:
    from guardrail.classifier.scaling import save_scalings
    from guardrail.errors import DataError
    from guardrail.evaluate.preferences import labelled, read_lines, words

    lines = read_lines(out, "rubrics")
    found = {r.key: m for r in rubrics if (m := labelled(lines, r.key)) is not None}
    if found:
        click.echo(words({key: measured for key, (measured, _) in found.items()}))
    if report is not None:
        _write(report, {key: measured.as_json() for key, (measured, _) in found.items()})
    if fit is not None:
        if not found:
            raise DataError(f"{out}: no line has a label, so there is nothing to fit; add label")
        save_scalings(fit, model_id, {key: scaling for key, (_, scaling) in found.items()})
