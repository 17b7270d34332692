"""``guardrail audit``: find, follow, count, export and remove recorded decisions."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from guardrail.cli.audit_options import audit_settings, database_options
from guardrail.cli.data import printable

if TYPE_CHECKING:
    from guardrail.audit import Query, Store
    from guardrail.audit.seal import Sealer

__all__ = ["audit_group"]

F = TypeVar("F", bound=Callable[..., Any])

LATE_S: Final = 5.0
"""Workers write in their own time: a decision may come to the database so long after younger ones
of others."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_CONTROL: Final = re.compile(r"[\x7f-\x9f]")
"""What JSON leaves as it is, and terminals may take for commands."""
_COLOURS: Final = {"pass": "green", "flag": "yellow", "redact": "cyan", "block": "red"}


def moment(value: str | float) -> float:
    """Turn ``2h`` (ago) or ISO 8601 (UTC where no zone is given) into seconds since 1970."""
    if isinstance(value, float):
        return value
    if found := re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([smhdw])", value):
        return time.time() - float(found[1]) * _UNITS[found[2]]
    try:
        point = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is neither like 30m, 2h, 7d nor like 2026-01-31T12:00"
        ) from error
    return (point if point.tzinfo else point.replace(tzinfo=UTC)).timestamp()


@click.group("audit")
def audit_group() -> None:
    """Read what `guardrail serve` has recorded of its decisions."""


def _filters(command: F) -> F:
    """Add the options that choose decisions."""
    choices = {
        "action": ["pass", "flag", "redact", "block"],
        "direction": ["input", "output"],
        "outcome": ["scanned", "truncated", "skipped", "failed"],
        "source": ["proxy", "sdk"],
    }
    options = [
        click.option(
            "--since", type=moment, metavar="TIME", help="From when on: 2h, 7d, 2026-01-31T12:00."
        ),
        click.option("--until", type=moment, metavar="TIME", help="Before when."),
        *(click.option(f"--{name}", type=click.Choice(few)) for name, few in choices.items()),
        click.option("-c", "--category", help="A category that was found."),
        click.option("--dialect", help="API dialect, such as openai.chat."),
        click.option("--route", help="Beginning of the path."),
        click.option("--client", help="Name of the proxy's own key."),
        click.option("--policy", help="Identity of the policy, name@hash."),
        click.option("--request-id", help="Identity of the request."),
        click.option("--reason", help="Why: threshold, pattern, detector, timeout …"),
        click.option("--review/--no-review", default=None, help="In the review band or not."),
        click.option("--labelled/--unlabelled", default=None, help="Answered by a person."),
        click.option("--least", type=float, help="Least probability of the deciding category."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def _open(
    audit: str | None, key_file: str | None, out: Path | None = None
) -> Iterator[tuple[Store, Sealer]]:
    """Open the audit to read; ``out`` is what will be written, which must not be the audit."""
    from guardrail.audit import Store
    from guardrail.audit.backend import backend_for
    from guardrail.audit.seal import Sealer
    from guardrail.errors import SettingsError

    settings = audit_settings(audit, key_file)
    if settings is None:
        raise SettingsError("--audit none: there is nothing to read")
    if settings.sqlite_path and not Path(settings.sqlite_path).is_file():
        raise SettingsError(
            f"--audit: there is no {settings.sqlite_path}; name the file that `guardrail serve` "
            "printed as its audit"
        )
    if (
        out is not None
        and settings.sqlite_path
        and out.exists()
        and out.samefile(settings.sqlite_path)
    ):
        raise SettingsError(f"--out: {out} is the audit itself; name another file")
    backend = backend_for(settings)
    try:
        with Store(backend) as store:
            yield store, Sealer(settings.key)
    except BrokenPipeError:  # of the reader of our output; a fault of no database
        raise
    except backend.faults as error:
        raise SettingsError(f"--audit: {settings.place}: {error}") from error


def _query(filters: dict[str, Any]) -> Query:
    from guardrail.audit import Query

    _require_utf8(filters.values())
    return Query(**filters)


def _require_utf8(values: Iterable[Any]) -> None:
    """Refuse what no database can look for; bytes of a command line may be anything."""
    for value in values:
        try:
            str(value).encode("utf-8")
        except UnicodeEncodeError as error:
            raise click.BadParameter(f"{value!r} is not UTF-8") from error


@audit_group.command("query")
@database_options
@_filters
@click.option("-n", "--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with everything.")
def query_command(
    audit: str | None, audit_key_file: str | None, limit: int, as_json: bool, **filters: Any
) -> None:
    """Show decisions, the newest first."""
    with _open(audit, audit_key_file) as (store, sealer):
        for found in store.select(_query(filters), limit):
            _show(found, sealer, as_json)


@audit_group.command("tail")
@database_options
@_filters
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with everything.")
@click.option(
    "--every-s", default=1.0, show_default=True, type=click.FloatRange(0.01),
    help="Seconds between looks.",
)  # fmt: skip
@click.option("--for-s", type=float, help="Stop after so many seconds.")
def tail_command(
    audit: str | None,
    audit_key_file: str | None,
    as_json: bool,
    every_s: float,
    for_s: float | None,
    **filters: Any,
) -> None:
    """Show decisions as they are recorded, until interrupted."""
    end = float("inf") if for_s is None else time.monotonic() + for_s
    with _open(audit, audit_key_file) as (store, sealer):
        recent = store.select(_query(filters), 10)[::-1]
        newest = recent[-1]["time"] if recent else time.time()
        for found in recent:
            _show(found, sealer, as_json)
        seen = {(one["time"], one["id"]) for one in _since(store, filters, newest - LATE_S)}
        while time.monotonic() < end:
            time.sleep(every_s)
            for found in _since(store, filters, newest - LATE_S):
                if (place := (found["time"], found["id"])) not in seen:
                    seen.add(place)
                    _show(found, sealer, as_json)
            newest = max([newest, *(time_s for time_s, _ in seen)])
            seen = {place for place in seen if place[0] >= newest - LATE_S}
            sys.stdout.flush()


def _since(store: Store, filters: dict[str, Any], start: float) -> Iterator[dict[str, Any]]:
    """Yield decisions from a time on, the oldest first."""
    since = max(start, filters["since"] or start)
    return store.every(_query({**filters, "since": since}))


@audit_group.command("stats")
@database_options
@_filters
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def stats_command(
    audit: str | None, audit_key_file: str | None, as_json: bool, **filters: Any
) -> None:
    """Count decisions by direction and action, category, outcome and reason."""
    from guardrail.audit.stats import summary

    with _open(audit, audit_key_file) as (store, _):
        found = summary(store, _query(filters))
    if as_json:
        click.echo(json.dumps(found))
        return
    click.secho(f"{found['decisions']:,} decisions of {found['requests']:,} requests", bold=True)
    for title in ("actions", "categories", "outcomes", "reasons", "decided_by"):
        for name, count in found[title].items():
            click.echo(f"  {title:<11} {name:<32} {count:>10,}")
    for name, value in found["check_ms"].items():
        click.echo(f"  check       {name:<32} {value:>10.1f} ms")


@audit_group.command("export")
@database_options
@_filters
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["jsonl", "parquet"]),
    help="[default: by the ending of --out]",
)  # fmt: skip
def export_command(
    audit: str | None, audit_key_file: str | None, out: Path, form: str | None, **filters: Any
) -> None:
    """Write decisions to a JSONL or Parquet file, the oldest first.

    Encrypted texts are written as texts where the key is at hand, or else as they are.
    """
    from guardrail.audit.export import write_jsonl, write_parquet

    chosen = form or ("parquet" if out.suffix == ".parquet" else "jsonl")
    write = write_parquet if chosen == "parquet" else write_jsonl
    with _open(audit, audit_key_file, out) as (store, sealer):
        count = write(store.every(_query(filters)), out, sealer)
    click.echo(f"{count:,} decisions in {out}")


@audit_group.command("prune")
@database_options
@click.option("--days", type=float, default=0.0, help="Remove what is older.")
@click.option(
    "--rows", type=click.IntRange(max=10**15), default=0,
    help="Keep no more than the newest so many.",
)  # fmt: skip
def prune_command(audit: str | None, audit_key_file: str | None, days: float, rows: int) -> None:
    """Remove old decisions, with their labels."""
    if days <= 0 and rows <= 0:
        raise click.UsageError("say --days or --rows")
    before = time.time() - days * 86_400 if days > 0 else float("-inf")
    with _open(audit, audit_key_file) as (store, _):
        click.echo(f"{store.prune(before, max(rows, 0)):,} decisions removed")


@audit_group.command("review")
@database_options
@click.option("--approve", multiple=True, metavar="ID", help="The decision was right.")
@click.option("--overturn", multiple=True, metavar="ID", help="The decision was wrong.")
@click.option("--by", "reviewer", help="Who says so.")
@click.option("--note", default="", help="Why.")
@click.option("-n", "--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
def review_command(
    audit: str | None,
    audit_key_file: str | None,
    approve: tuple[str, ...],
    overturn: tuple[str, ...],
    reviewer: str | None,
    note: str,
    limit: int,
) -> None:
    """Show decisions that wait for a person, or answer some of them."""
    from guardrail.audit.review import Answer, answer, waiting

    said = [(one, Answer.APPROVE) for one in approve] + [(one, Answer.OVERTURN) for one in overturn]
    if said and not reviewer:
        raise click.UsageError("say --by NAME")
    _require_utf8((*approve, *overturn, reviewer, note))
    with _open(audit, audit_key_file) as (store, sealer):
        for identity, what in said:
            for label in answer(store, identity, what, reviewer or "", time.time(), note=note):
                verb = "violates" if label["violates"] else "does not violate"
                click.echo(f"{identity}  {what.value}: {verb} {label['category']}")
        for found in [] if said else waiting(store, limit):
            _show(found, sealer, as_json=False)


@audit_group.command("labels")
@database_options
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["policy", "train"]), default="policy",
    show_default=True, help="Rows for policies (calibration:, tests:, fit) or for training.",
)  # fmt: skip
def labels_command(audit: str | None, audit_key_file: str | None, out: Path, form: str) -> None:
    """Write what people have said in review as labelled texts, one JSON object a line."""
    from guardrail.audit.export import write_lines
    from guardrail.audit.review import policy_rows, training_rows

    rows = training_rows if form == "train" else policy_rows
    with _open(audit, audit_key_file, out) as (store, sealer):
        count = write_lines(rows(store, sealer), out)
        missing = _unreadable(store, sealer)
    click.echo(f"{count:,} rows in {out}")
    if missing:
        click.secho(
            f"{missing:,} reviewed decisions are left out: their text was not kept, or this key "
            "does not open it",
            fg="yellow", err=True,
        )  # fmt: skip


def _unreadable(store: Store, sealer: Sealer) -> int:
    from guardrail.audit import Query

    reviewed = store.every(Query(labelled=True))
    return sum(not sealer.open(one["text"], str(one["text_form"])) for one in reviewed)


@audit_group.command("key")
def key_command() -> None:
    """Print a new key for hashed and encrypted texts; keep it apart from the database."""
    from guardrail.audit.seal import new_key

    click.echo(new_key())


def _show(found: dict[str, Any], sealer: Sealer, as_json: bool) -> None:
    from guardrail.audit.export import opened

    shown = opened(found, sealer)
    if as_json:
        line = json.dumps(shown, ensure_ascii=False)
        click.echo(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line))
        return
    chance = shown["probability"]
    click.secho(f"{shown['time'][:23]}  ", nl=False)
    click.secho(f"{shown['action']:<5}", fg=_COLOURS.get(shown["action"]), bold=True, nl=False)
    parts = (
        f"{shown['direction']:<6}", f"{shown['dialect']:<18}",
        f"{'-' if chance is None else format(chance, '.3f')}",
        "+".join(shown["categories"]) or shown["reason"] or "-",
        "" if shown["enforced"] else "(monitor)", "review" if shown["review"] else "",
        shown["id"],
    )  # fmt: skip
    click.echo("  " + "  ".join(printable(part) for part in parts if part))
    if shown["text"]:
        click.echo(f"    {printable(str(shown['text']))[:160]}")
