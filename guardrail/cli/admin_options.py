"""Options of the operator's port, and the settings that they make."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from guardrail.proxy import AdminSettings

__all__ = ["admin_address", "admin_options", "admin_settings"]

F = TypeVar("F", bound=Callable[..., Any])


def admin_options(command: F) -> F:
    """Add the options of the operator's port."""
    for option in (
        click.option(
            "--admin-token", show_envvar=True,
            help="Token of the console; better set as a variable than as a flag [default: a new "
            "one at each start, printed].",
        ),
        click.option(
            "--admin-host", default="127.0.0.1", show_default=True,
            help="Address of the console; put TLS in front of any but loopback.",
        ),
        click.option(
            "--admin-port", type=int,
            help="Port of the console, beside the proxy's own; 0 picks one [default: no console].",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def admin_settings(port: int | None, host: str, token: str | None) -> AdminSettings | None:
    """Return the settings that the options say, or None for no console.

    Raises:
        SettingsError: One of them cannot be used.
    """
    from guardrail.proxy import AdminSettings

    if port is None:
        return None
    if port == 0:  # all workers must know the same one
        with socket.create_server((host, 0)) as probe:
            port = int(probe.getsockname()[1])
    return AdminSettings(port, token or secrets.token_urlsafe(32), host)


def admin_address(settings: AdminSettings, given: str | None) -> str:
    """Return what to open; a token that was made here is part of it, behind the #.

    Args:
        settings: Where the console is.
        given: The token that the operator has set, or None.
    """
    place = f"http://{settings.host}:{settings.port}/"
    return place if given else f"{place}#token={settings.token}"
