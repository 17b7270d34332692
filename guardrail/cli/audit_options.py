"""Options that every command with an audit has, and the settings that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from guardrail.audit import AuditSettings

__all__ = ["audit_options", "audit_settings", "database_options"]

F = TypeVar("F", bound=Callable[..., Any])

_PLACE: Final = "sqlite:PATH or postgresql://user@host/name"
_KEY_FILE: Final = click.option(
    "--audit-key-file",
    type=click.Path(),
    help="File with the key of hashed and encrypted texts [default: GUARDRAIL_AUDIT_KEY].",
)


def audit_options(command: F) -> F:
    """Add the options of a command that writes an audit."""
    for option in (
        _KEY_FILE,
        click.option(
            "--audit-rows", default=5_000_000, show_default=True, type=int,
            help="Most records that are kept; 0 for no limit.",
        ),
        click.option(
            "--audit-days", default=30.0, show_default=True, type=float,
            help="Days for which records are kept; 0 for ever.",
        ),
        click.option(
            "--audit", metavar="PLACE",
            help=f"Where decisions are recorded: {_PLACE}, or none "
            "[default: a SQLite file in the user's state folder].",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def database_options(command: F) -> F:
    """Add the options of a command that reads an audit."""
    place = click.option(
        "--audit", metavar="PLACE", envvar="GUARDRAIL_AUDIT", show_envvar=True,
        help=f"The audit to read: {_PLACE} [default: where `guardrail serve` keeps it].",
    )  # fmt: skip
    return place(_KEY_FILE(command))


def audit_settings(
    audit: str | None, key_file: str | None, days: float = 0.0, rows: int = 0
) -> AuditSettings | None:
    """Return the settings that the options say, or None for no audit.

    Raises:
        SettingsError: One of them cannot be used.
    """
    from guardrail.audit import AuditSettings, default_url, read_key

    if audit == "none":
        return None
    return AuditSettings(audit or default_url(), days=days, rows=rows, key=read_key(key_file))
