"""Reading and writing decisions; one connection, one thread at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from guardrail.audit.backend import Backend, backend_for
from guardrail.audit.record import COLUMNS
from guardrail.audit.schema import migrate
from guardrail.audit.settings import AuditSettings

__all__ = ["Query", "Store"]

PRUNED_AT_ONCE: Final = 1_000
"""Rows of one transaction, so that readers and other writers get their turn."""
READ_AT_ONCE: Final = 500

_UPSERT: Final = (
    f"INSERT INTO guardrail_decisions ({', '.join(COLUMNS)}) "  # noqa: S608
    f"VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])
)
_EQUAL: Final = (
    "action", "direction", "dialect", "outcome", "request_id", "policy", "source", "reason",
    "client",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Query:
    """Which decisions are asked for; what is None fits all.

    Args:
        since: Seconds since 1970, from which on.
        until: Seconds since 1970, before which.
        action: ``pass``, ``flag`` or ``block``.
        direction: ``input`` or ``output``.
        dialect: API dialect.
        outcome: How far the check got.
        request_id: Identity of the request.
        policy: Identity of the policy.
        source: ``proxy`` or ``sdk``.
        reason: Why.
        client: Name of the proxy's own key.
        route: Beginning of the path.
        category: A category among the findings.
        review: Whether a finding is in its review band.
        labelled: Whether a person has answered.
        least: Least probability of the deciding category.
    """

    since: float | None = None
    until: float | None = None
    action: str | None = None
    direction: str | None = None
    dialect: str | None = None
    outcome: str | None = None
    request_id: str | None = None
    policy: str | None = None
    source: str | None = None
    reason: str | None = None
    client: str | None = None
    route: str | None = None
    category: str | None = None
    review: bool | None = None
    labelled: bool | None = None
    least: float | None = None

    def where(self) -> tuple[str, list[Any]]:
        """Return the condition and its parameters."""
        parts, values = ["1 = 1"], []
        for name in _EQUAL:
            if (value := getattr(self, name)) is not None:
                parts.append(f"{name} = ?")
                values.append(value)
        for condition, value in (
            ("time >= ?", self.since),
            ("time < ?", self.until),
            ("probability >= ?", self.least),
            ("route LIKE ? ESCAPE '!'", None if self.route is None else _like(self.route) + "%"),
            (
                "categories LIKE ? ESCAPE '!'",
                None if self.category is None else f"%,{_like(self.category)},%",
            ),
        ):
            if value is not None:
                parts.append(condition)
                values.append(value)
        if self.review is not None:
            parts.append("review = 1" if self.review else "review = 0")
        if self.labelled is not None:
            exists = "EXISTS (SELECT 1 FROM guardrail_labels l WHERE l.decision_id = d.id)"
            parts.append(exists if self.labelled else f"NOT {exists}")
        return " AND ".join(parts), values


def _like(text: str) -> str:
    for special in "!%_":
        text = text.replace(special, f"!{special}")
    return text


class Store:
    """An open database. Not safe to use from two threads at once.

    Args:
        backend: The kind of database.

    Raises:
        SettingsError: A newer release has written it.
        Exception: One of the backend's faults.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.connection = backend.connect()
        try:
            migrate(self.connection, backend)
        except BaseException:
            self.connection.close()
            raise

    @classmethod
    def open(cls, settings: AuditSettings) -> Self:
        """Open the database that the settings name; see the class."""
        return cls(backend_for(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows in one transaction; one of a known identity replaces the older.

        Args:
            rows: Values in the order of `COLUMNS`.

        Raises:
            Exception: One of the backend's faults; nothing was written.
        """
        try:
            self.connection.cursor().executemany(self.backend.sql(_UPSERT), rows)
            self.connection.commit()
        except BaseException:
            self.connection.rollback()
            raise

    def execute(self, text: str, values: Sequence[Any] = ()) -> Any:
        """Run a statement within the current transaction; return its cursor."""
        cursor = self.connection.cursor()
        cursor.execute(self.backend.sql(text), tuple(values))
        return cursor

    def select(
        self,
        query: Query,
        limit: int,
        *,
        before: tuple[float, str] | None = None,
        after: tuple[float, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Return decisions.

        Args:
            query: Which.
            limit: Most of them.
            before: Time and identity of the decision below which to go on, the newest first.
            after: The same above which to go on, the oldest first.
        """
        where, values = query.where()
        order = "ASC" if after is not None else "DESC"
        for place, sign in ((before, "<"), (after, ">")):
            if place is not None:
                where += f" AND (time {sign} ? OR (time = ? AND id {sign} ?))"
                values += [place[0], place[0], place[1]]
        cursor = self.execute(
            f"SELECT {', '.join(COLUMNS)} FROM guardrail_decisions d WHERE {where} "  # noqa: S608
            f"ORDER BY time {order}, id {order} LIMIT ?",
            [*values, limit],
        )
        found = [_as_dict(row) for row in cursor.fetchall()]
        self.connection.rollback()  # a reader holds no transaction open
        return found

    def every(self, query: Query) -> Iterator[dict[str, Any]]:
        """Yield all decisions that fit, the oldest first, some at a time."""
        place = (float("-inf"), "")
        while found := self.select(query, READ_AT_ONCE, after=place):
            yield from found
            place = (found[-1]["time"], found[-1]["id"])

    def get(self, identity: str) -> dict[str, Any] | None:
        """Return one decision, or None."""
        cursor = self.execute(
            f"SELECT {', '.join(COLUMNS)} FROM guardrail_decisions WHERE id = ?",  # noqa: S608
            [identity],
        )
        row = cursor.fetchone()
        self.connection.rollback()
        return None if row is None else _as_dict(row)

    def prune(self, before: float, rows: int, *, most: int | None = None) -> int:
        """Remove old decisions, with their labels.

        Args:
            before: Those before this time (seconds since 1970) go.
            rows: Of the rest, no more than so many stay; 0 for no limit.
            most: Most that are removed at this call.

        Returns:
            How many were removed.
        """
        if rows:
            cursor = self.execute(
                "SELECT time FROM guardrail_decisions ORDER BY time DESC LIMIT 1 OFFSET ?", [rows]
            )
            row = cursor.fetchone()
            if row is not None:  # just above it, since times before this are removed
                before = max(before, float(row[0]) + 1e-6)
        removed = 0
        while most is None or removed < most:
            cursor = self.execute(
                "DELETE FROM guardrail_decisions WHERE id IN (SELECT id FROM guardrail_decisions "
                "WHERE time < ? ORDER BY time LIMIT ?)",
                [before, PRUNED_AT_ONCE],
            )
            self.connection.commit()
            removed += cursor.rowcount
            if cursor.rowcount < PRUNED_AT_ONCE:
                break
        return removed


def _as_dict(row: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
    found["detail"] = _detail(found["detail"])
    found["categories"] = [name for name in found["categories"].split(",") if name]
    for name in ("final", "enforced", "review"):
        found[name] = bool(found[name])
    return found


def _detail(text: str) -> Mapping[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
