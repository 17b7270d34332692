"""``guardrail keys``: keys that clients need to use the proxy."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import click

from guardrail.errors import SettingsError

__all__ = ["keys_group"]


@click.group("keys")
def keys_group() -> None:
    """Make keys that clients need to use the proxy (``guardrail serve --keys FILE``)."""


@keys_group.command("new")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What the log calls it, such as the team.")
@click.option("--policy", help="Policy of this key: a bundled name, or a path from the file.")
def new_command(file: Path, name: str, policy: str | None) -> None:
    """Make a key, print it once, and add its SHA-256 to FILE.

    \b
    guardrail keys new keys.toml --name team-a
    guardrail serve --upstream https://api.openai.com --keys keys.toml
    """
    key = f"grk-{secrets.token_urlsafe(32)}"
    lines = [
        "[[keys]]",
        f"name = {_quoted(name)}",
        f'sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"',
        *([f"policy = {_quoted(policy)}"] if policy else []),
    ]
    try:
        _add(file, "\n".join(lines) + "\n")
    except OSError as error:
        what = error.strerror or error
        raise SettingsError(f"{file}: {what}; name a file that can be written") from error
    click.echo(key)
    click.echo(f"added to {file} as '{name}'; this is the only time that it is shown", err=True)


def _add(file: Path, entry: str) -> None:
    """Add an entry to a file of keys, whole or not at all."""
    from guardrail.proxy.keys import read_keys

    before = file.read_text(encoding="utf-8") if file.exists() else ""
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(before + ("\n" if before else "") + entry, encoding="utf-8")
    try:
        read_keys(fresh)
    except SettingsError as error:
        fresh.unlink()
        raise SettingsError(str(error).replace(str(fresh), str(file))) from error
    fresh.replace(file)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
