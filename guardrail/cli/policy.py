"""``guardrail policy``: tools for the authors of policies."""

from __future__ import annotations

import json

import click

__all__ = ["policy_group"]


@click.group("policy")
def policy_group() -> None:
    """Validate and show policies."""


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
        click.echo(f"{name:<12} {' '.join(bundled(name).description.split())}")
