"""``guardrail policy fit``: compile rubrics, resolve targets, and say how good they are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from guardrail.classifier.rubrics import Fit
    from guardrail.policy import Rule

__all__ = ["fit_command"]


@click.command("fit")
@click.argument("policy")
@click.option("--bundle", type=click.Path(), help="A model folder, in place of the embedded one.")
def fit_command(policy: str, bundle: str | None) -> None:
    """Compile the rubrics of POLICY and resolve its targets.

    Reports the precision and recall to expect, each example judged by a head that has not seen
    it, with 95 % intervals. Exit code: 0 fitted, 4 a target that the data cannot support.
    """
    from guardrail.classifier import load_classifier
    from guardrail.classifier.heads import HeadStore, fit_policy
    from guardrail.classifier.prepare import prepare
    from guardrail.policy import load_policy

    loaded = load_policy(policy)
    model = load_classifier(bundle)
    store = HeadStore.beside(loaded)
    started = time.perf_counter()
    fits = fit_policy(loaded, model)
    seconds = time.perf_counter() - started
    kept = [store.write(fit.head) for fit in fits]
    for fit in fits:
        rule = loaded.rule(fit.head.category)
        assert rule is not None
        _report(rule, fit)
    where = f"kept in {store.folder}" if kept and all(kept) else "not kept"
    count = f"{len(fits)} rubric{'s' if len(fits) != 1 else ''}"
    click.echo(f"{count} fitted in {seconds:.2f} s, {where if fits else 'nothing to keep'}")
    ready = prepare(loaded, model, store=store)
    for found in ready.targets:
        click.echo(
            f"{found.category}: {found.level} from {found.threshold:.4f} meets {found.target}: "
            f"observed {found.estimate:.3f}, guaranteed {found.bound:.3f}, from "
            f"{found.positives:,} violating and {found.negatives:,} other texts ({found.source})"
        )

    for one in ready.abstentions:
        band = f"[{one.low.threshold:.4f}, {one.high.threshold:.4f})"
        never = one.low.threshold >= one.high.threshold
        click.echo(
            f"{one.category}: abstains {'never' if never else f'in {band}'} at confidence "
            f"{one.abstain.confidence:g}, on {one.violating:.1%} of {one.low.positives:,} "
            f"violating and {one.others:.1%} of {one.low.negatives:,} other texts "
            f"({one.low.source}); then {one.abstain.action}"
        )


def _report(rule: Rule, fit: Fit) -> None:
    from guardrail.classifier.bounds import interval

    click.secho(rule.category, bold=True)
    p, n = len(fit.violates), len(fit.allowed)
    click.echo(f"  {p} violating and {n} allowed examples, {len(fit.backdrop)} other texts")
    for name, bar in (("flag", rule.flag), ("block", rule.block)):
        if bar is None or not p:
            continue
        true, false = int((fit.violates >= bar).sum()), int((fit.allowed >= bar).sum())
        stray = int((fit.backdrop >= bar).sum())
        parts = (
            ("recall", true, p),
            ("precision", true, true + false),
            ("false alarms on other texts", stray, len(fit.backdrop)),
        )
        shown = []
        for label, k, total in parts:
            if total:
                low, high = interval(k, total)
                shown.append(f"{label} {k / total:.2f} [{low:.2f}, {high:.2f}]")
        click.echo(f"  {name} from {bar:g}: {', '.join(shown)}")
    for warning in fit.warnings:
        click.secho(f"  note: {warning}", fg="yellow")
