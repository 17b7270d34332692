"""Options of ``guardrail serve`` that bound what clients and upstreams may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from guardrail.proxy.limits import Limits

__all__ = ["limit_options", "limits_from"]

HELP: Final = (
    ("header_bytes", "Longest request line, and longest single header."),
    ("header_s", "Longest time for the headers of a request."),
    ("idle_s", "Longest life of a connection that asks nothing."),
    ("write_s", "Longest time that a client may leave an answer unread."),
    ("connections", "Most open connections of a worker."),
    ("concurrency", "Most requests in progress of a worker."),
    ("body_memory_bytes", "Most memory for the request bodies in progress."),
    ("stream_bytes", "Longest streamed answer."),
    ("stream_s", "Longest time of a streamed answer."),
    ("batch_s", "What one batch of the classifier should take."),
    ("drain_delay_s", "On SIGTERM: time with readiness false before listening ends."),
    ("drain_s", "On SIGTERM: longest wait for answers in progress."),
)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command; `limits_from` reads them."""
    defaults = Limits()
    for name, text in reversed(HELP):
        default = getattr(defaults, name)
        option = click.option(
            f"--{_parameter(name).replace('_', '-')}",
            default=default,
            show_default=True,
            type=type(default),
            help=text,
        )
        command = option(command)
    return command


def limits_from(options: dict[str, Any]) -> Limits:
    """Take the limits out of a command's options.

    Args:
        options: All options that the command was not given by name.

    Returns:
        The limits.

    Raises:
        SettingsError: A value that cannot be used.
    """
    return Limits(**{name: options[_parameter(name)] for name, _ in HELP})


def _parameter(name: str) -> str:
    return name if name.startswith("drain") else f"max_{name}"
