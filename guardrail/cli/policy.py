"""``guardrail policy``: tools for the authors of policies."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guardrail.cli.policy_diff import diff_command
from guardrail.cli.policy_explain import explain_command
from guardrail.cli.policy_fit import fit_command
from guardrail.cli.policy_test import test_command

if TYPE_CHECKING:
    from guardrail.policy import Rule

__all__ = ["policy_group"]


@click.group("policy")
def policy_group() -> None:
    """Write, check, try and compare policies.

    \b
    guardrail policy new mine.yaml        begin
    guardrail policy validate mine.yaml   is it a policy?
    guardrail policy lint mine.yaml       does it mean what it says?
    guardrail policy fit mine.yaml        compile its rubrics and report
    guardrail policy test mine.yaml       run its examples
    guardrail policy explain mine.yaml "some text"
    guardrail policy diff default mine.yaml --data texts.jsonl
    """


@policy_group.command("validate")
@click.argument("policies", nargs=-1, required=True)
def validate_command(policies: tuple[str, ...]) -> None:
    """Check that POLICIES (files or bundled names) can be used.

    A mistake is reported with file, line, column and the fix. Exit code: 0 all valid, 4 one
    is not.
    """
    from guardrail.cli import EXIT_BAD_FILE
    from guardrail.errors import PolicyError
    from guardrail.policy import load_policy

    failed = False
    for source in policies:
        try:
            policy = load_policy(source)
        except PolicyError as error:
            failed = True
            click.secho(str(error), fg="red", err=True)
        else:
            click.echo(f"{source}: valid; {policy.identity}, {len(policy.rules)} categories")
    if failed:
        raise SystemExit(EXIT_BAD_FILE)


@policy_group.command("lint")
@click.argument("policies", nargs=-1, required=True)
def lint_command(policies: tuple[str, ...]) -> None:
    """Look in POLICIES for rules that cannot do what they seem to say.

    Thresholds that nothing reaches, categories that overlap, patterns that match everything,
    examples on the wrong side. Exit code: 0 nothing found, 1 something, 4 not a policy.
    """
    from guardrail.cli import EXIT_BLOCKED
    from guardrail.policy import load_policy
    from guardrail.policy.lint import lint

    total = 0
    for source in policies:
        for remark in lint(load_policy(source)):
            total += 1
            click.secho(f"{source}: {remark}", fg="yellow")
    click.echo(f"{total} remarks" if total != 1 else "1 remark")
    if total:
        raise SystemExit(EXIT_BLOCKED)


@policy_group.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of a policy, for editors that complete and check."""
    from guardrail.policy import SCHEMA

    click.echo(json.dumps(SCHEMA, indent=2))


@policy_group.command("list")
def list_command() -> None:
    """List the bundled policies."""
    from guardrail.policy import bundled, bundled_names

    for name in bundled_names():
        click.echo(f"{name:<18} {' '.join(bundled(name).description.split())}")


@policy_group.command("show")
@click.argument("policy")
def show_command(policy: str) -> None:
    """Show what is in force once POLICY is merged with what it extends."""
    from guardrail.policy import load_policy

    loaded = load_policy(policy)
    click.secho(loaded.identity, bold=True)
    if loaded.extends:
        click.echo(f"extends {', '.join(loaded.extends)}")
    for rule in loaded.rules:
        click.echo(_line(rule))
    if loaded.overrides:
        click.secho("changed from what it extends:", bold=True)
    for change in loaded.overrides:
        after = "removed" if change.after is None else _short(change.after)
        click.echo(f"  {change.path}: {_short(change.before)} -> {after}  ({change.file})")


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _line(rule: Rule) -> str:
    way = "both" if len(rule.directions) == 2 else next(iter(rule.directions)).value
    flag = rule.flag_target or rule.flag
    block = rule.block_target or rule.block
    parts = [f"{name} {value}" for name, value in (("flag", flag), ("block", block)) if value]
    if rule.escalate:
        band = rule.escalate
        parts.append(f"asks {band.guard} in [{band.low:g}, {band.high:g})")
    if rule.review:
        parts.append(f"review in [{rule.review.low:g}, {rule.review.high:g})")
    extras = [
        f"{len(items)} {name}"
        for name, items in (
            ("patterns", rule.matchers.patterns),
            ("words", rule.matchers.words),
            ("detectors", rule.matchers.detectors),
        )
        if items
    ]
    own = "rubric" if rule.rubric else ""
    more = ", ".join(part for part in (own, *extras) if part)
    return (
        f"  {rule.category:<24} {way:<7} {rule.action.value:<6} {', '.join(parts)}  {more}".rstrip()
    )


_NEW = """\
# yaml-language-server: $schema={schema}
version: 1
name: {name}
description: What this policy is for.
extends: {base}          # null takes away what you do not want

categories:
  # hate: {{block: 0.7}}          change a threshold of the base
  # drugs: null                  leave a category out

  # A category of your own: say what violates it, then show a few cases of each kind.
  own_category:
    rubric: Describe in one or two sentences what violates this rule.
    direction: both
    flag: 0.5
    block: 0.8
    message: We cannot help with this here.
    examples:
      violates:
        - A text that must be caught.
      allowed:
        - A text that sounds like it and must pass.
    # words: [some name]
    # patterns: ['order [0-9]{{8}}']
    # detectors: [pii, secrets]
"""


@policy_group.command("new")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--extends", "base", default="default", show_default=True, help="Build on this one.")
def new_command(file: str, base: str) -> None:
    """Write a policy to start from, and the schema for editors beside it."""
    from guardrail.errors import PolicyError
    from guardrail.policy import SCHEMA, bundled

    path = Path(file)
    if path.exists():
        raise click.UsageError(f"{file} is there already; name another")
    bundled(base)
    schema = path.with_suffix(".schema.json")
    name = re.sub("[^a-z0-9]", "-", path.stem.lower())[:60].strip("-") or "mine"
    try:
        path.write_text(_NEW.format(schema=schema.name, name=name, base=base), encoding="utf-8")
        schema.write_text(json.dumps(SCHEMA, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        what = error.strerror or error
        raise PolicyError(f"{what}; name a file that can be written", file=file) from error
    click.echo(f"wrote {path} and {schema}; next: guardrail policy fit {path}")


policy_group.add_command(explain_command)
policy_group.add_command(fit_command)
policy_group.add_command(test_command)
policy_group.add_command(diff_command)
