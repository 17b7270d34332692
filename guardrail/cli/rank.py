"""``guardrail rank``: best of several candidates, by a judge's score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from guardrail.cli.data import printable
from guardrail.cli.judge import model_options, opened, run_file

__all__ = ["rank_command"]


@click.command("rank")
@click.argument("candidates", nargs=-1)
@click.option("--prompt", help="What the candidates answer.")
@click.option("--context", help="What a faithful answer rests on.")
@click.option("--reference", help="A correct answer.")
@model_options
@click.option(
    "--data",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSONL, plain or .gz: id, candidates, and where known prompt, context, reference.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="JSONL to write, for --data."
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
def rank_command(
    candidates: tuple[str, ...],
    prompt: str | None,
    context: str | None,
    reference: str | None,
    model: str | None,
    names: tuple[str, ...],
    data: Path | None,
    out: Path | None,
    limit: int | None,
    resume: bool,
    skip_bad: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Rank CANDIDATES, the best first, by the mean logit of their probabilities.

    A harmful rubric (safety, a category) counts against a candidate, a quality for it.

    \b
    guardrail rank --prompt "Any plans?" "I will hurt you." "A walk in the park."
    guardrail rank -m gguf:model.gguf -r helpfulness --data candidates.jsonl --out ranked.jsonl

    Exit code: 0 done, 4 a file or model that cannot be used.
    """
    if bool(candidates) == (data is not None):
        raise click.UsageError("give either CANDIDATES or --data FILE")
    if data is not None and out is None:
        raise click.UsageError("name the file to write with --out")
    judge, rubrics = opened(model, names, how)
    if data is not None and out is not None:
        from guardrail.evaluate.judging import rank_file

        bounds = {"restart": not resume, "skip_bad": skip_bad, "limit": limit}
        run_file(rank_file, judge, rubrics, data, out, **bounds)
        return
    from guardrail.classifier.judges import score_of
    from guardrail.classifier.questions import Exchange

    exchanges = [
        Exchange(text, prompt=prompt, context=context, reference=reference) for text in candidates
    ]
    scores = [score_of(row, rubrics) for row in judge.judge(exchanges, rubrics)]
    order = sorted(range(len(scores)), key=lambda n: -scores[n])
    if as_json:
        body = {"model": judge.model_id, "best": order[0], "order": order, "scores": scores}
        click.echo(json.dumps(body))
        return
    for place, n in enumerate(order, 1):
        click.echo(f"  {place}.  {scores[n]:+8.3f}  {printable(candidates[n])[:100]}")
    click.echo(f"  model {judge.model_id}")
