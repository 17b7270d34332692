"""``guardrail check``: judge one text and show why."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from guardrail.cli import EXIT_BLOCKED, EXIT_FLAGGED
from guardrail.cli.data import calibration_option
from guardrail.types import Action, Direction, Role, Segment, Verdict

if TYPE_CHECKING:
    from guardrail.classifier.base import Classifier
    from guardrail.policy import Policy

__all__ = ["check_command"]

MAX_CHARS = 10_000_000
SHOWN = 6
_COLOUR = {
    Action.PASS: "green",
    Action.FLAG: "yellow",
    Action.REDACT: "cyan",
    Action.BLOCK: "red",
}


@click.command("check")
@click.argument("text", required=False)
@click.option(
    "-f", "--file", "source", type=click.File("rb"), help="Read the text from a file; - is stdin."
)
@click.option(
    "-d",
    "--direction",
    type=click.Choice([d.value for d in Direction]),
    default="input",
    show_default=True,
    help="input: what a user sends. output: what the model answers.",
)
@click.option("--prompt", help="The user turn before it, for judging an answer.")
@click.option(
    "-p", "--policy", default="default", show_default=True, help="A policy file or bundled name."
)
@click.option("--bundle", type=click.Path(), help="A model folder, in place of the embedded one.")
@calibration_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check_command(
    text: str | None,
    source: IO[bytes] | None,
    direction: str,
    prompt: str | None,
    policy: str,
    bundle: str | None,
    calibration: Path | None,
    as_json: bool,
) -> None:
    """Judge one TEXT, a file or standard input.

    \b
    guardrail check "How do I kill a Python process?"
    guardrail check -d output --prompt "Any plans?" "I will hurt you."
    cat mail.txt | guardrail check --json

    Exit code: 0 passed, 1 blocked, 3 flagged or redacted, 4 unusable policy or model.
    """
    from guardrail.classifier import load_classifier
    from guardrail.classifier.recalibrated import recalibrate
    from guardrail.policy import load_policy

    content = _read(text, source)
    loaded = load_policy(policy)
    classifier = recalibrate(load_classifier(bundle), calibration)
    role = Role.ASSISTANT if direction == "output" else Role.USER
    segment = Segment(content, role, prompt=prompt)
    started = time.perf_counter()
    verdict = judge(classifier, loaded, Direction(direction), segment)
    milliseconds = (time.perf_counter() - started) * 1000
    if as_json:
        click.echo(json.dumps(describe(verdict, milliseconds), ensure_ascii=False))
    else:
        _show(loaded, verdict, milliseconds)
    if verdict.effective is not Action.PASS:
        sys.exit(EXIT_BLOCKED if verdict.blocked else EXIT_FLAGGED)


def _read(text: str | None, source: IO[bytes] | None) -> str:
    if (text is None) == (source is None) and (text is not None or sys.stdin.isatty()):
        raise click.UsageError("give one TEXT, or --file FILE, or pipe text in")
    if text is not None:
        return text
    data = (source or sys.stdin.buffer).read(MAX_CHARS + 1)
    if len(data) > MAX_CHARS:
        raise click.UsageError(f"more than {MAX_CHARS:,} bytes; use `guardrail score` for a corpus")
    return data.decode("utf-8", "replace")


def judge(
    classifier: Classifier, policy: Policy, direction: Direction, segment: Segment
) -> Verdict:
    """Judge one text the way the proxy does."""
    import asyncio

    from guardrail.check import Checker

    async def run() -> Verdict:
        async with Checker(classifier, max_queue_chars=2 * MAX_CHARS) as checker:
            return await checker.check(policy, direction, segment)

    return asyncio.run(run())


def describe(verdict: Verdict, milliseconds: float) -> dict[str, object]:
    """Return a verdict as plain data, as ``--json`` prints it."""
    coverage = verdict.scores.coverage
    return {
        "action": verdict.effective.value,
        "would_be": verdict.action.value,
        "direction": verdict.direction.value,
        "outcome": verdict.outcome.value,
        "categories": list(verdict.categories),
        "findings": [
            {
                "category": f.category,
                "action": f.action.value,
                "probability": f.probability,
                "threshold": f.threshold,
                "reason": f.reason,
                "review": f.review,
                "stage": f.stage.value,
                "guard": f.guard,
            }
            for f in verdict.findings
        ],
        "redacted": dict(verdict.redacted),
        "review": verdict.review,
        "stage": verdict.stage.value if verdict.stage else None,
        "escalations": [asdict(asked) for asked in verdict.scores.escalations],
        "probabilities": {k: round(p, 6) for k, p in verdict.scores.categories.items()},
        "scanned_chars": coverage.scanned_chars,
        "total_chars": coverage.total_chars,
        "policy": verdict.policy,
        "model": verdict.scores.model,
        "milliseconds": round(milliseconds, 3),
    }


def _show(policy: Policy, verdict: Verdict, milliseconds: float) -> None:
    word = verdict.action.value.upper() + ("" if verdict.enforced else " (monitored only)")
    click.secho(word, fg=_COLOUR[verdict.action], bold=True, nl=False)
    click.echo(f"  {verdict.direction.value}, {verdict.outcome.value}")
    rules = {rule.category: rule for rule in policy.rules}
    found = {f.category: f for f in verdict.findings}
    ranked = sorted(verdict.scores.categories.items(), key=lambda item: -item[1])
    for key, probability in ranked[: max(SHOWN, len(found))]:
        finding, rule = found.get(key), rules.get(key)
        colour = _COLOUR[finding.action] if finding else None
        bar = "█" * round(probability * 20)
        note = (
            f"{finding.action.value} from {finding.threshold:.2f}"
            if finding and finding.threshold
            else ("" if rule else "no rule")
        )
        click.secho(f"  {key:<24} {probability:6.3f}  {bar:<20}  {note}".rstrip(), fg=colour)
    for asked in verdict.scores.escalations:
        answer = f"says {asked.after:.3f}" if asked.after is not None else f"failed: {asked.reason}"
        click.echo(f"  {asked.category:<24} was {asked.before:.3f}; guard {asked.guard} {answer}")
    for kind, count in verdict.redacted.items():
        click.secho(f"  redacts  {kind} ({count})", fg="cyan")
    for reason in verdict.review_reasons:
        click.secho(f"  review   {reason}", fg="yellow")
    for finding in verdict.findings:
        if finding.probability is None:
            click.secho(f"  {finding.category:<24} {finding.reason}", fg=_COLOUR[finding.action])
    coverage = verdict.scores.coverage
    click.echo(
        f"  {coverage.scanned_chars:,} of {coverage.total_chars:,} characters, "
        f"{coverage.tokens:,} tokens in {milliseconds:.1f} ms; "
        f"policy {verdict.policy}, model {verdict.scores.model}"
    )
