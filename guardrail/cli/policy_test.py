"""``guardrail policy test``: run policies over labelled texts as a test suite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrail.cli.data import calibration_option, clip

if TYPE_CHECKING:
    from guardrail.cli.policy_suite import Case
    from guardrail.policy import Policy

__all__ = ["test_command"]


@dataclass(frozen=True, slots=True)
class _Mark:
    """What a suite must reach."""

    recall: float
    false_alarms: float
    strict: bool


@dataclass(frozen=True, slots=True)
class _Line:
    """One category of a suite, counted; a known gap counts as missed here."""

    category: str
    violating: int
    caught: int
    allowed: int
    alarms: int
    known_gaps: int
    enough: bool


@click.command("test")
@click.argument("policies", nargs=-1, required=True)
@click.option(
    "-d", "--data", multiple=True, type=click.Path(exists=True), help="Labelled JSONL; repeatable."
)
@click.option("--bundle", type=click.Path(), help="A model folder, in place of the embedded one.")
@calibration_option
@click.option(
    "--recall",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Share of the violating texts of each category that must be caught.",
)
@click.option(
    "--false-alarms",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the allowed texts of each category that may be caught.",
)
@click.option("--strict", is_flag=True, help="Fail on a known gap that is none any longer, too.")
@click.option(
    "--mark-gaps",
    is_flag=True,
    help="Rewrite the marks of the test files: what fails becomes a known gap, what passes none.",
)
@click.option("-q", "--quiet", is_flag=True, help="Leave out the texts that failed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each policy.")
def test_command(
    policies: tuple[str, ...],
    data: tuple[str, ...],
    bundle: str | None,
    calibration: Path | None,
    recall: float,
    false_alarms: float,
    strict: bool,
    mark_gaps: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run the examples of POLICIES, their `tests:` and any --data as a test suite.

    A violating text must be flagged or blocked, one of a category of your own by that very
    category; an allowed text must pass. An example of a rubric is judged by a head that was
    fitted without it. A row with "known_gap" ("why"; "gap_in" may name the policies) is shown
    and counted as missed, and does not fail the run. --mark-gaps writes these marks, shows what
    it changes, and refuses where more than a tenth of a policy's texts would be marked. Exit
    code: 0 passed, 1 failed, 4 unusable file.
    """
    from guardrail.classifier import load_classifier
    from guardrail.classifier.prepare import PreparedPolicies
    from guardrail.classifier.recalibrated import recalibrate
    from guardrail.cli import EXIT_BLOCKED
    from guardrail.cli.policy_gaps import marked_cases
    from guardrail.cli.policy_suite import Remembering, suite
    from guardrail.policy import load_policy

    loaded = {name: load_policy(name) for name in policies}
    model = recalibrate(Remembering(load_classifier(bundle)), calibration)
    prepared = PreparedPolicies(model)
    suites = []
    for name, policy in loaded.items():
        ready = prepared.get(policy)
        cases = suite(ready, model, data)
        if not cases:
            raise click.UsageError(f"{name} has no examples or tests; add some or give --data")
        suites.append((ready.policy, cases))
    if mark_gaps:
        _mark_gaps(suites, model.model_id, say=not as_json)
        suites = [(policy, marked_cases(cases, model.model_id)) for policy, cases in suites]
    mark = _Mark(recall, false_alarms, strict)
    report = _print_json if as_json else _print
    passed = [report(policy, cases, mark, quiet) for policy, cases in suites]
    if not all(passed):
        raise SystemExit(EXIT_BLOCKED)


def _mark_gaps(suites: Sequence[tuple[Policy, Sequence[Case]]], model: str, *, say: bool) -> None:
    """Rewrite the test files, or refuse and change nothing."""
    from guardrail.cli import EXIT_BLOCKED
    from guardrail.cli.policy_gaps import MOST_GAPS, mark, over_the_limit

    over = [(policy, cases) for policy, cases in suites if over_the_limit(cases)]
    for policy, cases in over:
        missed = sum(not case.expected for case in cases)
        click.secho(
            f"{policy.name}: {missed} of {len(cases)} texts would be marked, more than "
            f"{MOST_GAPS:.0%}: nothing was written; mend thresholds, examples or the model",
            fg="red",
            err=True,
        )
    if over:
        raise SystemExit(EXIT_BLOCKED)
    for change in mark(suites, model):
        change.write()
        for line in change.diff() if say else ():
            click.secho(line, fg={"+": "green", "-": "red"}.get(line[:1]))


def _print(policy: Policy, cases: Sequence[Case], mark: _Mark, quiet: bool) -> bool:
    """Print the table of a policy and what went wrong; return whether it passed."""
    from guardrail.cli.policy_suite import Outcome

    lines = _count(cases, mark)
    click.secho(policy.identity, bold=True)
    _table(lines)
    closed = [case for case in cases if case.outcome is Outcome.CLOSED_GAP]
    for case in cases:
        if case.outcome is not Outcome.PASSED and not (quiet and case not in closed):
            _show(case, mark.strict)
    met = sum(case.expected for case in cases)
    gaps = sum(case.outcome is Outcome.KNOWN_GAP for case in cases)
    known = f", {gaps} known gap{'s' if gaps > 1 else ''}" if gaps else ""
    click.echo(f"{met} of {len(cases)} texts as expected{known}")
    failed = [line.category for line in lines if not line.enough]
    if failed:
        click.secho(f"below the mark: {', '.join(failed)}", fg="red")
    if closed:
        click.secho(
            f"no longer a gap: {len(closed)} texts; remove the mark (--mark-gaps does)",
            fg="red" if mark.strict else "yellow",
        )
    return not failed and not (closed and mark.strict)


def _count(cases: Sequence[Case], mark: _Mark) -> list[_Line]:
    from guardrail.cli.policy_suite import Outcome

    lines = []
    for name in dict.fromkeys(_name(case) for case in cases):
        own = [case for case in cases if _name(case) == name]
        bad = [case for case in own if case.row.violates]
        good = [case for case in own if not case.row.violates]
        missed = sum(case.outcome is Outcome.FAILED for case in bad)
        strays = sum(case.outcome is Outcome.FAILED for case in good)
        enough = (
            missed <= (1 - mark.recall) * len(bad) + 1e-9
            and strays <= mark.false_alarms * len(good) + 1e-9
        )
        gaps = sum(case.outcome is Outcome.KNOWN_GAP for case in own)
        caught, alarms = sum(c.expected for c in bad), sum(not c.expected for c in good)
        lines.append(_Line(name, len(bad), caught, len(good), alarms, gaps, enough))
    return lines


def _name(case: Case) -> str:
    return case.row.category or "(any)"


def _table(lines: Sequence[_Line]) -> None:
    from guardrail.classifier.bounds import interval

    head = f"{'category':<24} {'caught':>9}  {'95 %':<12} {'alarms':>9}  {'95 %':<12}"
    click.secho(f"{head} {'gaps':>4}", bold=True)
    for line in lines:
        cells = []
        for k, total in ((line.caught, line.violating), (line.alarms, line.allowed)):
            low, high = interval(k, total) if total else (0.0, 1.0)
            cells.append(f"{f'{k}/{total}':>9}  {f'{low:.2f}-{high:.2f}' if total else '':<12}")
        gaps = f"{line.known_gaps:>4}" if line.known_gaps else ""
        colour = None if line.enough and not line.known_gaps else "yellow" if line.enough else "red"
        click.secho(f"{line.category:<24} {' '.join(cells)} {gaps}".rstrip(), fg=colour)


def _show(case: Case, strict: bool) -> None:
    from guardrail.cli.policy_suite import Outcome

    verdict = case.verdict
    found = ", ".join(f"{f.category} {f.probability or 0:.2f}" for f in verdict.findings[:3])
    wanted = "should be caught" if case.row.violates else "should pass"
    chance = verdict.scores.get(case.row.category or "unsafe")
    own = f", p = {chance:.2f}" if chance is not None else ""
    if case.outcome is Outcome.CLOSED_GAP:
        said, colour = "no longer a gap: remove the mark", "red" if strict else "yellow"
    elif case.outcome is Outcome.KNOWN_GAP:
        said, colour = f"known gap ({case.gap}); {wanted}{own}", None
    else:
        said, colour = f"{wanted}{own}{f'; found {found}' if found else ''}", None
    click.secho(f"  {case.place} {_name(case)}: {said}: {clip(case.row.text)}", fg=colour)


def _print_json(policy: Policy, cases: Sequence[Case], mark: _Mark, quiet: bool) -> bool:
    """Print one JSON object for a policy; return whether it passed."""
    from guardrail.cli.policy_suite import Outcome

    lines = _count(cases, mark)
    counts = {one.name.lower(): sum(case.outcome is one for case in cases) for one in Outcome}
    passed = all(line.enough for line in lines) and not (mark.strict and counts["closed_gap"])
    report = {
        "policy": policy.identity,
        "passed": passed,
        "texts": len(cases),
        "counts": counts,
        "categories": {
            line.category: {
                "violating": line.violating,
                "caught": line.caught,
                "allowed": line.allowed,
                "alarms": line.alarms,
                "known_gaps": line.known_gaps,
                "enough": line.enough,
            }
            for line in lines
        },
        "cases": [
            _described(case) for case in cases if case.outcome is not Outcome.PASSED and not quiet
        ],
    }
    click.echo(json.dumps(report, ensure_ascii=False))
    return passed


def _described(case: Case) -> dict[str, Any]:
    """Return a text that did not simply pass as plain data."""
    scores = case.verdict.scores
    return {
        "outcome": case.outcome.value,
        "file": case.file.name if case.file else None,
        "line": case.row.line or None,
        "category": case.row.category,
        "violates": case.row.violates,
        "role": case.row.role.value,
        "probability": scores.get(case.row.category or "unsafe"),
        "found": list(case.verdict.categories),
        "known_gap": case.gap,
        "text": case.row.text,
    }
