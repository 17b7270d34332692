"""What the console sends, read and bounded: filters, places, bodies."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from guardrail.audit import Query
from guardrail.classifier.base import Sample
from guardrail.errors import SettingsError
from guardrail.types import Role
from guardrail.wire.json import clean

__all__ = [
    "read_body",
    "read_names",
    "read_number",
    "read_place",
    "read_query",
    "read_sample",
    "read_text",
]

MAX_TEXT_CHARS: Final = 8_000
_TEXTS: Final = (
    "action", "direction", "dialect", "outcome", "request_id", "policy", "source", "reason",
    "client", "route", "category",
)  # fmt: skip


def read_query(given: Mapping[str, str]) -> Query:
    """Return which decisions are asked for."""
    chosen: dict[str, Any] = {name: given[name][:200] for name in _TEXTS if given.get(name)}
    chosen |= {n: given[n] == "1" for n in ("review", "labelled") if given.get(n)}
    least = read_number(given, "least", 0, 0, 1) if given.get("least") else None
    return Query(
        **chosen, least=least, since=_moment(given, "since"), until=_moment(given, "until")
    )


def read_number(
    given: Mapping[str, str], name: str, default: float, low: float, high: float
) -> float:
    """Return a number of the query, within its bounds."""
    try:
        value = float(given.get(name) or default)
    except ValueError as error:
        raise SettingsError(f"'{name}' should be a number") from error
    if not math.isfinite(value) or not low <= value <= high:
        raise SettingsError(f"'{name}' should be between {low} and {high}")
    return value


def _moment(given: Mapping[str, str], name: str) -> float | None:
    """Read ISO 8601, as a browser's date field gives it."""
    if not given.get(name):
        return None
    try:
        found = datetime.fromisoformat(given[name])
    except ValueError as error:
        raise SettingsError(f"'{name}' should be a time such as 2026-01-31T12:00Z") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def read_place(given: Mapping[str, str], name: str) -> tuple[float, str] | None:
    """Return the time and identity at which a page goes on."""
    if not given.get(name):
        return None
    found = re.fullmatch(r"(-?[0-9.e+-]{1,40}),(.{0,200})", given[name])
    try:
        return (float(found[1]), found[2]) if found else None
    except ValueError:
        return None


async def read_body(request: web.Request) -> dict[str, Any]:
    """Return a JSON object."""
    try:
        body = await request.json()
    except (LookupError, RecursionError, ValueError) as error:  # a charset or a depth that is odd
        raise SettingsError("the body should be JSON") from error
    if not isinstance(body, dict):
        raise SettingsError("the body should be a JSON object")
    return body


def read_text(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """Return a text of a body."""
    value = body.get(name, default)
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARS:
        raise SettingsError(f"'{name}' should be a text of at most {MAX_TEXT_CHARS:,} characters")
    return clean(value)


def read_names(body: Mapping[str, Any], name: str) -> list[str] | None:
    """Return a list of names of a body; None where it has none."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise SettingsError(f"'{name}' should be a list of names")
    return [clean(one) for one in value[:100]]


def read_sample(body: Mapping[str, Any]) -> Sample:
    """Return a text to score, with who speaks."""
    role = body.get("role", Role.USER.value)
    if not isinstance(role, str) or role not in {r.value for r in Role}:
        raise SettingsError(f"'role' is one of {', '.join(r.value for r in Role)}")
    prompt = read_text(body, "prompt", "") or None
    return Sample(read_text(body, "text"), Role(role), prompt)
