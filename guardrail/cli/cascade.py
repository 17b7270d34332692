"""``guardrail cascade``: where to ask a bigger guard, solved on labelled texts."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from guardrail.classifier.calibration import Platt
    from guardrail.classifier.cascade import Guard
    from guardrail.evaluate.pairing import Paired
    from guardrail.evaluate.tradeoff import Choice, Goal, Pairs
    from guardrail.policy import Policy

__all__ = ["cascade_group"]

SECONDS: Final = "s"


@click.group("cascade")
def cascade_group() -> None:
    """Decide when a bigger guard is asked."""


@cascade_group.command("tune")
@click.option(
    "--data",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Labelled JSONL: a policy's labels, or training rows (.gz too).",
)
@click.option("-p", "--policy", required=True, help="A policy with `guards:`.")
@click.option("--guard", help="Name of the guard; may be left out where there is one.")
@click.option("--category", default="unsafe", show_default=True, help="The category to tune.")
@click.option("--escalated", type=click.FloatRange(0, 1), help="Most of the texts to escalate.")
@click.option("--recall", type=click.FloatRange(0, 1), help="Least recall; the fewest escalated.")
@click.option(
    "--fpr",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="False-alarm rate at which recall is read.",
)
@click.option(
    "--scores",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keeps both models' numbers, so that a second run asks nobody again.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Policy to write.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="PNG to write.")
@click.option(
    "--cost",
    nargs=2,
    type=float,
    help="Price of 1,000 texts: embedded model, guard; seconds are measured otherwise.",
)
@click.option("--split", type=click.Choice(["dev", "train", "all"]), default="all")
@click.option("--limit", type=click.IntRange(50), help="Most texts of each file.")
@click.option("--bundle", type=click.Path(), help="A model folder, in place of the embedded one.")
def tune_command(
    data: tuple[Path, ...],
    policy: str,
    guard: str | None,
    category: str,
    escalated: float | None,
    recall: float | None,
    fpr: float,
    scores: Path | None,
    out: Path | None,
    plot: Path | None,
    cost: tuple[float, float] | None,
    split: str,
    limit: int | None,
    bundle: str | None,
) -> None:
    """Find the band of one category that meets a target, and calibrate the guard.

    \b
    guardrail cascade tune -p mine.yaml --data labelled.jsonl --escalated 0.05 --out tuned.yaml
    guardrail cascade tune -p mine.yaml --data labelled.jsonl --recall 0.95 --fpr 0.01

    Half of the texts choose the band, the others say how good it is. Exit code: 0 done, 4 data or
    guard that cannot be used, or a target that no band reaches.
    """
    from guardrail.evaluate.tradeoff import Goal, averaged, calibrated, choose
    from guardrail.policy import Combine

    if (escalated is None) == (recall is None):
        raise click.UsageError("give one target: --escalated 0.05, or --recall 0.95")
    loaded, asked, paired = _paired(data, policy, guard, category, scores, split, limit, bundle)
    pairs, platt = calibrated(paired.pairs)
    if asked.spec.combine is Combine.MEAN:
        pairs = averaged(pairs)
    ours, theirs = pairs.halves()
    goal = Goal(fpr, escalated, recall)
    chosen = choose(ours, goal).on(theirs)
    without = choose(ours, Goal(fpr, escalated=0.0)).on(theirs)
    _report(chosen, without, goal, paired)
    _curves(ours, theirs, chosen, paired, fpr, cost, plot)
    if out is not None:
        _write(out, loaded, asked, category, chosen, platt, policy, len(pairs))
        click.echo(f"wrote {out}")


def _paired(
    data: tuple[Path, ...],
    policy: str,
    name: str | None,
    category: str,
    scores: Path | None,
    split: str,
    limit: int | None,
    bundle: str | None,
) -> tuple[Policy, Guard, Paired]:
    from guardrail.classifier import load_classifier
    from guardrail.classifier.prepare import prepare
    from guardrail.errors import SettingsError
    from guardrail.evaluate.pairing import pair_up, read_cases
    from guardrail.policy import load_policy

    loaded = load_policy(policy)
    asked = _guard(loaded, name, category)
    cases = [c for path in data for c in read_cases(path, category, split=split, limit=limit)]
    try:
        asked.probe([category])
    except KeyError as error:
        raise SettingsError(
            f"--category: '{category}' has no rubric that the guard could be asked about"
        ) from error
    classifier = prepare(loaded, load_classifier(bundle)).classifier
    with click.progressbar(length=len(cases), label="scoring") as bar:
        return loaded, asked, pair_up(cases, category, classifier, asked, scores, bar.update)


def _guard(policy: Policy, name: str | None, category: str) -> Guard:
    """Make the guard without its calibration, which is about to be fitted."""
    from guardrail.classifier.asking import rubrics_of
    from guardrail.classifier.cascade import Guard
    from guardrail.classifier.guard_kinds import make_judge
    from guardrail.errors import SettingsError

    names = ", ".join(policy.guards) or "none"
    if name is None and len(policy.guards) == 1:
        name = next(iter(policy.guards))
    if name is None or name not in policy.guards:
        raise SettingsError(f"--guard: name one of the policy's guards ({names})")
    if policy.rule(category) is None:
        raise SettingsError(f"--category: the policy has no rule for '{category}'; add one")
    spec = replace(policy.guards[name], calibration={}, cache=0)
    folder = Path(policy.file).parent if policy.file else Path()
    return Guard(spec, make_judge(spec, rubrics_of(policy), folder), normalise=policy.normalise)


def _report(chosen: Choice, without: Choice, goal: Goal, paired: Paired) -> None:
    rows = paired.pairs
    click.echo(
        f"{len(rows):,} texts, {int(rows.labels.sum()):,} of them violating; "
        f"{paired.failed} without an answer of the guard"
    )
    wanted = (
        f"at most {goal.escalated:.1%} escalated"
        if goal.escalated is not None
        else f"recall {goal.recall:g} at {goal.fpr:.1%} false alarms"
    )
    click.secho(f"target: {wanted}", bold=True)
    click.echo(f"  band       [{chosen.low:.4f}, {chosen.high:.4f})")
    click.echo(f"  threshold  {chosen.threshold:.4f}")
    click.echo("  on the half that nothing was chosen on, with exact 95 % intervals:")
    for label, value, (low, high) in (
        ("escalated", chosen.share, chosen.share_interval),
        ("recall", chosen.recall, chosen.recall_interval),
        ("alarms", chosen.fpr, chosen.fpr_interval),
    ):
        click.echo(f"  {label:<10} {value:.4f}  [{low:.4f}, {high:.4f}]")
    click.echo(
        f"  without    {without.recall:.4f} recall, {without.fpr:.4f} alarms, no guard asked"
    )
    if chosen.share > 0 and chosen.recall <= without.recall:
        click.secho(
            "  the guard brings nothing there: do not use it for this category", fg="yellow"
        )
    missed = (goal.escalated is not None and chosen.share_interval[0] > goal.escalated) or (
        goal.recall is not None and chosen.recall_interval[1] < goal.recall
    )
    if missed:
        click.secho("  the other half misses the target: more labels are needed", fg="yellow")


def _curves(
    ours: Pairs,
    theirs: Pairs,
    chosen: Choice,
    paired: Paired,
    fpr: float,
    cost: tuple[float, float] | None,
    plot: Path | None,
) -> None:
    from guardrail.errors import SettingsError
    from guardrail.evaluate.tradeoff import frontier, oracle
    from guardrail.evaluate.tradeoff_plot import draw, table

    points = frontier(ours, fpr, on=theirs)
    unit = "price" if cost else SECONDS
    small, big = cost or (1000 * paired.seconds_small, 1000 * paired.seconds_big)
    costs = [(0.0 if small != small else small) + c.share * big for _, c in points]
    click.echo(table(points, costs, unit))
    if plot is not None:
        bound = frontier(oracle(ours), fpr, on=oracle(theirs))
        try:
            draw(points, bound, costs, chosen, unit=unit, fpr=fpr, path=plot)
        except ModuleNotFoundError as error:
            raise click.UsageError(str(error)) from error
        except OSError as error:
            raise SettingsError(f"--plot: {plot}: {error.strerror or error}") from error
        click.echo(f"wrote {plot}")


def _write(
    out: Path,
    policy: Policy,
    guard: Guard,
    category: str,
    chosen: Choice,
    platt: Platt,
    source: str,
    rows: int,
) -> None:
    """Write a policy that extends the one that was tuned; see that it loads."""
    from guardrail.errors import SettingsError
    from guardrail.policy import load_policy
    from guardrail.types import Action

    rule = policy.rule(category)
    level = "block" if rule is not None and rule.action is Action.BLOCK else "flag"
    base = source if policy.file is None or Path(source).suffix == "" else _beside(out, source)
    lines = [
        f"# Written by `guardrail cascade tune` from {rows:,} labelled texts. On the half that",
        "# nothing was chosen on, with exact 95 % intervals:",
        f"#   escalated {_span(chosen.share, chosen.share_interval)}",
        f"#   recall    {_span(chosen.recall, chosen.recall_interval)}",
        f"#   alarms    {_span(chosen.fpr, chosen.fpr_interval)}",
        "version: 1",
        f"name: {policy.name[:50]}-cascade",
        f"extends: {json.dumps(base, ensure_ascii=False)}",
        "guards:",
        f"  {guard.name}:",
        f"    kind: {guard.spec.kind.value}",
        f"    calibration: {{{category}: [{platt.slope:.6g}, {platt.offset:.6g}]}}",
        "categories:",
        f"  {category}:",
        f"    {level}: {min(chosen.threshold, 1.0):.6f}",
    ]
    if level == "block" and rule is not None and (rule.flag or 0.0) > chosen.threshold:
        lines.append("    flag: null  # it was above what blocks now")
    if chosen.low < chosen.high:
        band = f"[{chosen.low:.4f}, {chosen.high:.4f}]"
        lines.append(f"    escalate: {{band: {band}, guard: {guard.name}}}")
    try:
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--out: {out}: {error.strerror or error}") from error
    load_policy(out)


def _span(value: float, span: tuple[float, float]) -> str:
    return f"{value:.4f} [{span[0]:.4f}, {span[1]:.4f}]"


def _beside(out: Path, source: str) -> str:
    return os.path.relpath(Path(source).resolve(), out.resolve().parent)
