"""``guardrail policy fit``: compile rubrics, resolve targets, and say how good they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guardrail.cli.data import calibration_option

if TYPE_CHECKING:
    from guardrail.classifier.base import Classifier
    from guardrail.classifier.labels import Labelled
    from guardrail.classifier.rubrics import Fit
    from guardrail.policy import Policy, Rule

__all__ = ["fit_command"]


@click.command("fit")
@click.argument("policy")
@click.option("--bundle", type=click.Path(), help="A model folder, in place of the embedded one.")
@calibration_option
@click.option(
    "--labels", multiple=True, type=click.Path(exists=True, dir_okay=False),
    help="Labelled JSONL, such as `guardrail audit labels` writes: examples for rubrics, and more "
    "data for targets. May be repeated.",
)  # fmt: skip
@click.option(
    "--write", type=click.Path(dir_okay=False, path_type=Path),
    help="A policy file to write that builds on POLICY and says what was fitted.",
)  # fmt: skip
def fit_command(
    policy: str,
    bundle: str | None,
    calibration: Path | None,
    labels: tuple[str, ...],
    write: Path | None,
) -> None:
    """Compile the rubrics of POLICY and resolve its targets.

    Reports the precision and recall to expect, each example judged by a head that has not seen
    it, with 95 % intervals. Exit code: 0 fitted, 4 a target that the data cannot support.
    """
    from guardrail.classifier import load_classifier
    from guardrail.classifier.heads import HeadStore, fit_policy
    from guardrail.classifier.labels import read_labels
    from guardrail.classifier.prepare import prepare
    from guardrail.classifier.recalibrated import recalibrate
    from guardrail.cli.fit_labels import fitted_policy, with_labels
    from guardrail.errors import SettingsError
    from guardrail.policy import load_policy

    as_written = load_policy(policy)
    rows = [row for name in labels for row in read_labels(name)]
    loaded = with_labels(as_written, rows)
    encoder = load_classifier(bundle)
    model = recalibrate(encoder, calibration)
    store = HeadStore.beside(loaded)
    started = time.perf_counter()
    fits = fit_policy(loaded, encoder)
    seconds = time.perf_counter() - started
    kept = [store.write(fit.head) for fit in fits]
    for fit in fits:
        rule = loaded.rule(fit.head.category)
        assert rule is not None
        _report(rule, fit)
    where = f"kept in {store.folder}" if kept and all(kept) else "not kept"
    count = f"{len(fits)} rubric{'s' if len(fits) != 1 else ''}"
    click.echo(f"{count} fitted in {seconds:.2f} s, {where if fits else 'nothing to keep'}")
    ready = prepare(loaded, model, store=store, labels=rows)
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

    _agreement(rows, ready.policy, ready.classifier)
    if write is not None:
        text = fitted_policy(policy, as_written, ready.policy, write)
        try:
            write.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"--write: {write}: {error.strerror or error}") from error
        click.echo(f"written to {write}")


def _agreement(rows: Sequence[Labelled], policy: Policy, classifier: Classifier) -> None:
    """Say how the labels compare with the probabilities of their texts."""
    if not rows:
        return
    from guardrail.classifier.bounds import interval
    from guardrail.classifier.prepare import BATCH

    parts = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    scores = [one for part in parts for one in classifier.score([row.sample for row in part])]
    click.secho(f"{len(rows):,} labels", bold=True)
    for rule in policy.rules:
        pairs = [
            (chance, row.violates)
            for row, one in zip(rows, scores, strict=True)
            if row.category == rule.category and (chance := one.get(rule.category)) is not None
        ]
        if pairs:
            hits = sum(violates for _, violates in pairs)
            low, high = interval(hits, len(pairs))
            mean = sum(chance for chance, _ in pairs) / len(pairs)
            click.echo(
                f"  {rule.category}: {hits} of {len(pairs)} violate, {hits / len(pairs):.2f} "
                f"[{low:.2f}, {high:.2f}]; their mean probability is {mean:.2f}"
            )
    click.echo("  labels from review come from its bands: they tell nothing of texts outside")


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
