"""``guardrail policy test`` and ``diff``: run a policy over labelled texts, or two over any."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guardrail.cli.data import calibration_option

if TYPE_CHECKING:
    from guardrail.classifier.labels import Labelled
    from guardrail.classifier.prepare import Prepared
    from guardrail.policy import Policy
    from guardrail.types import Scores, Verdict

__all__ = ["diff_command", "test_command"]

BATCH = 64
SHOWN_CHARS = 72


@dataclass(frozen=True, slots=True)
class _Case:
    """One text of a suite and what came of it."""

    row: Labelled
    source: str
    verdict: Verdict
    passed: bool


@click.command("test")
@click.argument("policy")
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
@click.option("-q", "--quiet", is_flag=True, help="Leave out the texts that failed.")
def test_command(
    policy: str,
    data: tuple[str, ...],
    bundle: str | None,
    calibration: Path | None,
    recall: float,
    false_alarms: float,
    quiet: bool,
) -> None:
    """Run the examples of POLICY, its `tests:` and any --data as a test suite.

    A violating text must be flagged or blocked, one of a category of your own by that very
    category; an allowed text must pass. An example of a rubric is judged by a head that was
    fitted without it. Exit code: 0 passed, 1 failed, 4 unusable file.
    """
    from guardrail.classifier import load_classifier
    from guardrail.classifier.prepare import PreparedPolicies
    from guardrail.classifier.recalibrated import recalibrate
    from guardrail.cli import EXIT_BLOCKED
    from guardrail.policy import load_policy

    loaded = load_policy(policy)
    model = recalibrate(load_classifier(bundle), calibration)
    ready = PreparedPolicies(model).get(loaded)
    cases = [*_own_examples(ready, model), *_files(ready, data)]
    if not cases:
        raise click.UsageError(f"{policy} has no examples or tests; add some or give --data")
    failed = _table(cases, recall, false_alarms)
    if not quiet:
        for case in cases:
            if not case.passed:
                _show(case)
    passed = sum(case.passed for case in cases)
    click.echo(f"{passed} of {len(cases)} texts as expected; policy {ready.policy.identity}")
    if failed:
        click.secho(f"below the mark: {', '.join(failed)}", fg="red")
        raise SystemExit(EXIT_BLOCKED)


def _judge(ready: Prepared, rows: Sequence[Labelled]) -> Iterator[Verdict]:
    from guardrail.escalate import decide_now

    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        for row, scores in zip(part, ready.classifier.score([r.sample for r in part]), strict=True):
            yield decide_now(ready, row.direction, row.sample, scores)


def _own_examples(ready: Prepared, model: object) -> Iterator[_Case]:
    """Judge the examples in the policy; those of a rubric as though they were not in it."""
    from guardrail.classifier.heads import fit_policy
    from guardrail.classifier.labels import Labelled
    from guardrail.classifier.rubrics import Embedder
    from guardrail.escalate import decide_now
    from guardrail.types import Direction, Role

    left_out: dict[str, list[float]] = {}
    if isinstance(model, Embedder):
        for fit in fit_policy(ready.policy, model):
            left_out[fit.head.category] = [*fit.violates, *fit.allowed]
    for rule in ready.policy.rules:
        role = Role.USER if Direction.INPUT in rule.directions else Role.ASSISTANT
        texts = [(t, True) for t in rule.examples.violates]
        texts += [(t, False) for t in rule.examples.allowed]
        rows = [Labelled(text, rule.category, violates, role) for text, violates in texts]
        scored = ready.classifier.score([r.sample for r in rows])
        chances: Sequence[float | None] = left_out.get(rule.category) or [None] * len(rows)
        for row, scores, chance in zip(rows, scored, chances, strict=True):
            seen = _without_itself(scores, rule.category, chance)
            verdict = decide_now(ready, row.direction, row.sample, seen)
            yield _Case(row, "examples", verdict, _as_expected(row, verdict))


def _without_itself(scores: Scores, category: str, chance: float | None) -> Scores:
    """Put the leave-one-out probability in place, unless a pattern decides anyway."""
    if chance is None or any(e.category == category for e in scores.evidence):
        return scores
    return replace(scores, categories={**scores.categories, category: float(chance)})


def _files(ready: Prepared, data: Sequence[str]) -> Iterator[_Case]:
    from guardrail.classifier.labels import read_labels

    policy = ready.policy
    folder = Path(policy.file).parent if policy.file else Path()
    for name in [*(str(folder / test) for test in policy.tests), *data]:
        # A shared file may have texts for categories that this policy leaves out.
        rows = [r for r in read_labels(name) if r.category is None or policy.rule(r.category)]
        rows = [r for r in rows if _in_scope(policy, r)]
        for row, verdict in zip(rows, _judge(ready, rows), strict=True):
            yield _Case(row, Path(name).name, verdict, _as_expected(row, verdict))


def _in_scope(policy: Policy, row: Labelled) -> bool:
    rule = policy.rule(row.category) if row.category else None
    return rule is None or row.direction in rule.directions


def _as_expected(row: Labelled, verdict: Verdict) -> bool:
    from guardrail.policy.schema import CATEGORY_KEYS
    from guardrail.types import Action

    caught = {f.category for f in verdict.findings if f.action is not Action.PASS}
    if row.category is None or row.category in CATEGORY_KEYS:
        return bool(caught) == row.violates
    return (row.category in caught) == row.violates


def _table(cases: Sequence[_Case], recall: float, false_alarms: float) -> list[str]:
    """Print a line for each category; return those that are below the mark."""
    from guardrail.classifier.bounds import interval

    names = list(dict.fromkeys(case.row.category or "(any)" for case in cases))
    click.secho(
        f"{'category':<24} {'caught':>9}  {'95 %':<12} {'alarms':>9}  {'95 %':<12}", bold=True
    )
    failed = []
    for name in names:
        own = [case for case in cases if (case.row.category or "(any)") == name]
        bad = [case for case in own if case.row.violates]
        good = [case for case in own if not case.row.violates]
        caught, alarms = sum(c.passed for c in bad), sum(not c.passed for c in good)
        enough = caught >= recall * len(bad) - 1e-9 and alarms <= false_alarms * len(good) + 1e-9
        if not enough:
            failed.append(name)
        cells = []
        for k, total in ((caught, len(bad)), (alarms, len(good))):
            low, high = interval(k, total) if total else (0.0, 1.0)
            cells.append(f"{f'{k}/{total}':>9}  {f'{low:.2f}-{high:.2f}' if total else '':<12}")
        click.secho(f"{name:<24} {' '.join(cells)}".rstrip(), fg=None if enough else "red")
    return failed


def _show(case: _Case) -> None:
    verdict = case.verdict
    found = ", ".join(f"{f.category} {f.probability or 0:.2f}" for f in verdict.findings[:3])
    wanted = "should be caught" if case.row.violates else "should pass"
    chance = verdict.scores.get(case.row.category or "unsafe")
    own = f", p = {chance:.2f}" if chance is not None else ""
    place = f"{case.source}:{case.row.line}" if case.row.line else case.source
    click.echo(
        f"  {place} {case.row.category or '(any)'}: {wanted}{own}"
        f"{f'; found {found}' if found else ''}: {_clip(case.row.text)}"
    )


def _clip(text: str) -> str:
    flat = " ".join(text.split())
    return json.dumps(flat if len(flat) <= SHOWN_CHARS else flat[: SHOWN_CHARS - 3] + "...",
                      ensure_ascii=False)  # fmt: skip


@click.command("diff")
@click.argument("before")
@click.argument("after")
@click.option(
    "-d", "--data", required=True, multiple=True, type=click.Path(exists=True),
    help="JSONL with a \"text\" in each line; labels are used where there are any.",
)  # fmt: skip
@click.option("--bundle", type=click.Path(), help="A model folder, in place of the embedded one.")
@click.option("-n", "--show", default=20, show_default=True, help="Changed texts to show.")
def diff_command(
    before: str, after: str, data: tuple[str, ...], bundle: str | None, show: int
) -> None:
    """Show which verdicts on --data change from policy BEFORE to policy AFTER.

    Exit code: 0 none changes, 1 some do, 4 unusable file.
    """
    from collections import Counter

    from guardrail.classifier import load_classifier
    from guardrail.classifier.prepare import PreparedPolicies
    from guardrail.cli import EXIT_BLOCKED
    from guardrail.policy import load_policy

    model = load_classifier(bundle)
    prepared = PreparedPolicies(model)
    sides = [prepared.get(load_policy(name)) for name in (before, after)]
    rows = [row for name in data for row in _texts(name)]
    pairs = list(zip(rows, *(_judge(side, rows) for side in sides), strict=True))
    counts = Counter((a.action.value, b.action.value) for _, a, b in pairs)
    for (old, new), count in sorted(counts.items()):
        if old != new:
            click.secho(f"{old:>5} -> {new:<5} {count:6,}", bold=True)
    changed = [(row, a, b) for row, a, b in pairs if a.action is not b.action]
    for row, a, b in changed[:show]:
        why = "+".join((b if b.findings else a).categories) or "-"
        click.echo(f"  {a.action.value} -> {b.action.value} ({why}): {_clip(row.text)}")
    click.echo(
        f"{len(changed):,} of {len(pairs):,} verdicts change from {sides[0].policy.identity} "
        f"to {sides[1].policy.identity}"
    )
    if changed:
        raise SystemExit(EXIT_BLOCKED)


def _texts(name: str) -> list[Labelled]:
    """Read texts, labelled or not."""
    from guardrail.classifier.labels import Labelled, read_labels
    from guardrail.errors import DataError
    from guardrail.types import Role

    try:
        return read_labels(name)
    except DataError:
        rows = []
        for number, line in enumerate(Path(name).read_text("utf-8", "replace").splitlines(), 1):
            if not line.strip():
                continue
            try:
                raw = json.loads(line)
                rows.append(
                    Labelled(str(raw["text"]), None, False, Role(raw.get("role", "user")),
                             raw.get("prompt"), number)
                )  # fmt: skip
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f'{name}:{number}: not an object with "text"') from error
        return rows
