"""The command line: one file for each group, heavy imports inside each command.

Exit codes, the same everywhere: 0 passed or done, 1 blocked (or a suite that failed), 2 wrong
usage, 3 flagged, 4 a file, model or setting that cannot be used; 141, as of SIGPIPE, where whoever
reads the output stops early.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from types import MappingProxyType
from typing import Any, Final

import click

from guardrail import __version__
from guardrail.errors import GuardrailError

__all__ = ["EXIT_BAD_FILE", "EXIT_BLOCKED", "EXIT_FLAGGED", "EXIT_UNREAD", "cli", "main"]

EXIT_BLOCKED: Final = 1
EXIT_FLAGGED: Final = 3
EXIT_BAD_FILE: Final = 4
EXIT_UNREAD: Final = 141

COMMANDS: Final = MappingProxyType(
    {
        "audit": "guardrail.cli.audit:audit_group",
        "calibrate": "guardrail.cli.calibrate:calibrate_command",
        "cascade": "guardrail.cli.cascade:cascade_group",
        "check": "guardrail.cli.check:check_command",
        "evaluate": "guardrail.cli.evaluate:evaluate_command",
        "judge": "guardrail.cli.judge:judge_command",
        "keys": "guardrail.cli.keys:keys_group",
        "policy": "guardrail.cli.policy:policy_group",
        "rank": "guardrail.cli.rank:rank_command",
        "score": "guardrail.cli.score:score_command",
        "serve": "guardrail.cli.serve:serve_command",
        "train": "guardrail.cli.train:train_command",
    }
)
"""Where each command lives; imported when it is run or listed."""


class _Lazy(click.Group):
    """Imports a command only when it is asked for, so that `guardrail check` starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; for output that nobody reads click would exit with 1, which is blocked."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # What is still buffered must not fail once more on the way out.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_UNREAD)


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 passed or done, 1 blocked, 2 wrong usage, 3 flagged, "
    "4 a file, model or setting that cannot be used.",
)
@click.version_option(__version__, prog_name="guardrail")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens (never any text).")
def cli(verbose: bool) -> None:
    """Check texts for harm and guard LLM traffic.

    Try it, offline:

    \b
        guardrail check "How do I kill a Python process?"
        guardrail serve --upstream http://127.0.0.1:8080
    """
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def main() -> None:
    """Run the command line; a fault of a file or setting is one line, not a traceback."""
    try:
        cli(prog_name="guardrail")
    except GuardrailError as error:
        click.secho(f"guardrail: {error}", fg="red", err=True)
        sys.exit(EXIT_BAD_FILE)
