"""The tables of the audit, and how an older database becomes a current one."""

from __future__ import annotations

from typing import Any, Final

from guardrail.audit.backend import Backend
from guardrail.errors import SettingsError

__all__ = ["MIGRATIONS", "VERSION", "migrate"]

_DECISIONS: Final = """
CREATE TABLE guardrail_decisions (
    id TEXT PRIMARY KEY,
    request_id TEXT NOT NULL,
    time DOUBLE PRECISION NOT NULL,
    final INTEGER NOT NULL,
    source TEXT NOT NULL,
    route TEXT NOT NULL,
    dialect TEXT NOT NULL,
    llm TEXT NOT NULL,
    client TEXT NOT NULL,
    direction TEXT NOT NULL,
    channel TEXT NOT NULL,
    role TEXT NOT NULL,
    policy TEXT NOT NULL,
    model TEXT NOT NULL,
    action TEXT NOT NULL,
    enforced INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    review INTEGER NOT NULL,
    categories TEXT NOT NULL,
    category TEXT NOT NULL,
    probability DOUBLE PRECISION,
    threshold DOUBLE PRECISION,
    checks INTEGER NOT NULL,
    scanned_chars INTEGER NOT NULL,
    total_chars INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    check_ms DOUBLE PRECISION NOT NULL,
    total_ms DOUBLE PRECISION NOT NULL,
    held_ms DOUBLE PRECISION NOT NULL,
    ended TEXT NOT NULL,
    text_form TEXT NOT NULL,
    text TEXT,
    prompt TEXT,
    detail TEXT NOT NULL
)"""

_LABELS: Final = """
CREATE TABLE guardrail_labels (
    decision_id TEXT NOT NULL REFERENCES guardrail_decisions (id) ON DELETE CASCADE,
    category TEXT NOT NULL,
    answer TEXT NOT NULL,
    violates INTEGER NOT NULL,
    reviewer TEXT NOT NULL,
    time DOUBLE PRECISION NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (decision_id, category)
)"""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        _DECISIONS,
        "CREATE INDEX guardrail_decisions_time ON guardrail_decisions (time, id)",
        "CREATE INDEX guardrail_decisions_request ON guardrail_decisions (request_id)",
    ),
    (
        _LABELS,
        "CREATE INDEX guardrail_decisions_review ON guardrail_decisions (time, id) "
        "WHERE review = 1",
    ),
)
"""The statements that lead from each version to the next; what was released never changes."""

VERSION: Final = len(MIGRATIONS)


def migrate(connection: Any, backend: Backend) -> int:
    """Bring a database to the current version, in one transaction.

    Args:
        connection: An open connection.
        backend: Its kind.

    Returns:
        The version that it had.

    Raises:
        SettingsError: A newer release has written it.
    """
    if (found := _version(connection, backend)) == VERSION:
        return found
    cursor = connection.cursor()
    backend.lock_schema(cursor)
    cursor.execute("CREATE TABLE IF NOT EXISTS guardrail_schema (version INTEGER NOT NULL)")
    cursor.execute("SELECT MAX(version) FROM guardrail_schema")
    found = int(cursor.fetchone()[0] or 0)  # another process may have been first
    if found > VERSION:
        connection.rollback()
        raise SettingsError(
            f"--audit: the database has schema version {found}, this release knows {VERSION}; "
            "upgrade guardrail or name another database"
        )
    for number, statements in enumerate(MIGRATIONS[found:], found + 1):
        for statement in statements:
            cursor.execute(statement)
        cursor.execute(backend.sql("INSERT INTO guardrail_schema VALUES (?)"), (number,))
    connection.commit()
    return found


def _version(connection: Any, backend: Backend) -> int:
    """Return the version of a database without keeping anyone from writing to it."""
    cursor = connection.cursor()
    try:
        cursor.execute("SELECT MAX(version) FROM guardrail_schema")
        return int(cursor.fetchone()[0] or 0)
    except backend.missing:
        return 0
    finally:
        connection.rollback()
