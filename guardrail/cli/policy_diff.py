"""``guardrail policy diff``: which verdicts change from one policy to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guardrail.cli.data import calibration_option, clip

if TYPE_CHECKING:
    from guardrail.classifier.labels import Labelled

__all__ = ["diff_command"]


@click.command("diff")
@click.argument("before")
@click.argument("after")
@click.option(
    "-d", "--data", required=True, multiple=True, type=click.Path(exists=True),
    help="JSONL with a \"text\" in each line; labels are used where there are any.",
)  # fmt: skip
@click.option("--bundle", type=click.Path(), help="A model folder, in place of the embedded one.")
@calibration_option
@click.option("-n", "--show", default=20, show_default=True, help="Changed texts to show.")
def diff_command(
    before: str,
    after: str,
    data: tuple[str, ...],
    bundle: str | None,
    calibration: Path | None,
    show: int,
) -> None:
    """Show which verdicts on --data change from policy BEFORE to policy AFTER.

    Exit code: 0 none changes, 1 some do, 4 unusable file.
    """
    from collections import Counter

    from guardrail.classifier import load_classifier
    from guardrail.classifier.prepare import PreparedPolicies
    from guardrail.classifier.recalibrated import recalibrate
    from guardrail.cli import EXIT_BLOCKED
    from guardrail.cli.policy_suite import judge
    from guardrail.policy import load_policy

    model = recalibrate(load_classifier(bundle), calibration)
    prepared = PreparedPolicies(model)
    sides = [prepared.get(load_policy(name)) for name in (before, after)]
    rows = [row for name in data for row in _texts(name)]
    pairs = list(zip(rows, *(judge(side, rows) for side in sides), strict=True))
    counts = Counter((a.action.value, b.action.value) for _, a, b in pairs)
    for (old, new), count in sorted(counts.items()):
        if old != new:
            click.secho(f"{old:>5} -> {new:<5} {count:6,}", bold=True)
    changed = [(row, a, b) for row, a, b in pairs if a.action is not b.action]
    for row, a, b in changed[:show]:
        why = "+".join((b if b.findings else a).categories) or "-"
        click.echo(f"  {a.action.value} -> {b.action.value} ({why}): {clip(row.text)}")
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
