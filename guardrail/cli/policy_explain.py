"""``guardrail policy explain``: which category, probability, threshold and words decided."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from guardrail.cli.data import calibration_option

if TYPE_CHECKING:
    from guardrail.classifier.base import Classifier, Sample
    from guardrail.policy import Policy
    from guardrail.types import Scores, Verdict

__all__ = ["explain_command"]

SHOWN = 6


@click.command("explain")
@click.argument("policy")
@click.argument("text", required=False)
@click.option(
    "-d", "--direction", type=click.Choice(["input", "output"]), default="input", show_default=True,
    help="input: what a user sends. output: what the model answers.",
)  # fmt: skip
@click.option("--prompt", help="The user turn before it, for judging an answer.")
@click.option("--bundle", type=click.Path(), help="A model folder, in place of the embedded one.")
@calibration_option
def explain_command(
    policy: str,
    text: str | None,
    direction: str,
    prompt: str | None,
    bundle: str | None,
    calibration: Path | None,
) -> None:
    """Show why POLICY decides as it does on TEXT; without TEXT, what each category means.

    The words are coloured by how far the deciding probability falls when they are left out.
    """
    from guardrail.classifier import load_classifier
    from guardrail.classifier.base import Sample
    from guardrail.classifier.prepare import PreparedPolicies
    from guardrail.classifier.recalibrated import recalibrate
    from guardrail.escalate import decide_now
    from guardrail.policy import load_policy
    from guardrail.types import Direction, Role

    loaded = load_policy(policy)
    if text is None:
        _meanings(loaded)
        return
    role = Role.ASSISTANT if direction == "output" else Role.USER
    model = recalibrate(load_classifier(bundle), calibration)
    ready = PreparedPolicies(model).get(loaded)
    sample = Sample(text, role, prompt)
    [scores] = ready.classifier.score([sample])
    verdict = decide_now(ready, Direction(direction), sample, scores)
    colours = {"pass": "green", "flag": "yellow", "redact": "cyan", "block": "red"}
    colour = colours[verdict.action.value]
    click.secho(verdict.action.value.upper(), fg=colour, bold=True, nl=False)
    click.echo(f"  {ready.policy.identity}, {scores.model}")
    for asked in verdict.scores.escalations:
        said = f"said {asked.after:.3f}" if asked.after is not None else f"failed: {asked.reason}"
        click.echo(f"  {asked.category} was {asked.before:.3f}; guard {asked.guard} {said}")
    key = _table(ready.policy, verdict)
    _evidence(scores, text)
    if key is not None:
        _words(ready.classifier, sample, scores, key)


def _meanings(policy: Policy) -> None:
    from guardrail.taxonomy import CATEGORIES

    click.secho(policy.identity, bold=True)
    for rule in policy.rules:
        known = CATEGORIES.get(rule.category)
        said = rule.rubric or (known.definition if known else "")
        click.secho(f"{rule.category}", bold=True, nl=False)
        click.echo(f"  {said}".rstrip())


def _table(policy: Policy, verdict: Verdict) -> str | None:
    """Print the likeliest categories; return the one that decided, or came closest."""
    found = {f.category: f for f in verdict.findings}
    rules = {rule.category: rule for rule in policy.rules}
    ranked = sorted(
        ((k, p) for k, p in verdict.scores.categories.items() if k in rules),
        key=lambda item: (item[0] not in found, -item[1]),
    )
    for key, chance in ranked[:SHOWN]:
        rule, finding = rules[key], found.get(key)
        bars = [
            f"{name} from {value:.2f}"
            for name, value in (("flags", rule.flag), ("blocks", rule.block))
            if value is not None
        ]
        did = f"-> {finding.action.value} by {finding.reason}" if finding else ""
        click.echo(f"  {key:<24} {chance:6.3f}  {', '.join(bars):<32} {did}".rstrip())
    return ranked[0][0] if ranked else None


def _evidence(scores: Scores, text: str) -> None:
    for item in scores.evidence:
        if item.kind == "view":
            click.echo(f"  also read without its disguise: {item.name}")
        else:
            shown = text[item.start : min(item.end, item.start + 60)]
            click.echo(f"  {item.category}: {item.kind} {item.name} at {item.start}: {shown!r}")


def _words(classifier: Classifier, sample: Sample, scores: Scores, key: str) -> None:
    from guardrail.classifier.attribution import attribution, pieces

    cuts = pieces(sample.text)
    falls = attribution(classifier, sample, scores.get(key) or 0.0, key, cuts)
    top = max([*falls, 1e-9])
    click.echo(f"  words that speak for {key}:")
    click.echo("    ", nl=False)
    for (start, end), fall in zip(cuts, falls, strict=True):
        share = fall / top if top > 0.005 else 0.0
        strong, some = share > 0.5, share > 0.2
        click.secho(sample.text[start:end], nl=False, bold=strong,
                    fg="red" if strong else "yellow" if some else None)  # fmt: skip
    click.echo()
    ranked = sorted(zip(falls, cuts, strict=True), reverse=True)[:5]
    for fall, (start, end) in ranked:
        if fall > 0.005:
            click.echo(f"    {fall:+.3f}  {sample.text[start:end].strip()[:60]}")
