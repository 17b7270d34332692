"""Connections to SQLite and PostgreSQL, and what tells their faults apart.

Both speak the same SQL here; what differs is in this file.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Final, Protocol

from guardrail.audit.settings import AuditSettings
from guardrail.errors import SettingsError

__all__ = ["Backend", "Postgres", "Sqlite", "backend_for"]

BUSY_S: Final = 1.0
"""Longest wait for another writer of the file before the write is tried again later."""
CONNECT_S: Final = 5
_INSTALL: Final = "PostgreSQL needs its driver: pip install 'guardrail[postgres]'"


class Backend(Protocol):
    """A kind of database."""

    bucket: str
    """SQL of a time bucket, whose width in seconds is a parameter."""

    def connect(self) -> Any:
        """Return a new connection in the sense of PEP 249.

        Raises:
            Exception: One of `faults`.
        """
        ...

    def sql(self, text: str) -> str:
        """Return a statement with this database's placeholders."""
        ...

    def lock_schema(self, cursor: Any) -> None:
        """Keep other processes from changing the schema until the transaction ends."""
        ...

    @property
    def faults(self) -> tuple[type[Exception], ...]:
        """What a database that is locked, full, gone or broken raises."""
        ...

    @property
    def refusals(self) -> tuple[type[Exception], ...]:
        """What a row that can never be written raises."""
        ...

    @property
    def missing(self) -> tuple[type[Exception], ...]:
        """What a statement about a table that does not exist raises."""
        ...

    def kind(self, error: Exception) -> str:
        """Return a stable word for a fault."""
        ...

    def moved(self) -> bool:
        """Whether the database is no longer the one that was opened."""
        ...


class Sqlite:
    """A SQLite file in WAL mode, which any number of processes may write.

    Args:
        path: The file; it and its folder are made where they are missing.
    """

    bucket = "CAST(time / ? AS INTEGER)"

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._identity: tuple[int, int] | None = None

    def connect(self) -> sqlite3.Connection:
        """Open the file, for its owner only where it is new."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, timeout=BUSY_S, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # Safe against a crash of the process; a power cut may cost the last transactions.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA journal_size_limit = 67108864")
        except sqlite3.Error:
            connection.close()
            raise
        self._identity = self._stat()
        return connection

    def sql(self, text: str) -> str:
        """Return it as it is."""
        return text

    def lock_schema(self, cursor: Any) -> None:
        """Begin to write, which only one process can."""
        cursor.execute("BEGIN IMMEDIATE")

    @property
    def faults(self) -> tuple[type[Exception], ...]:
        """SQLite's faults, and those of the folder around it."""
        return (sqlite3.Error, OSError)

    @property
    def refusals(self) -> tuple[type[Exception], ...]:
        """Values that SQLite does not take."""
        return (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError)

    @property
    def missing(self) -> tuple[type[Exception], ...]:
        """SQLite's word for it, among other faults: the next statement tells them apart."""
        return (sqlite3.OperationalError,)

    def kind(self, error: Exception) -> str:
        """Return ``locked``, ``full``, ``gone``, ``corrupt`` or ``failed``."""
        name = str(getattr(error, "sqlite_errorname", ""))
        for start, word in _SQLITE_KINDS.items():
            if name.startswith(start):
                return word
        return "gone" if isinstance(error, OSError) else "failed"

    def moved(self) -> bool:
        """Whether the file was deleted or replaced: SQLite would go on writing to the old one."""
        return self._stat() != self._identity

    def _stat(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


_SQLITE_KINDS: Final = {
    "SQLITE_BUSY": "locked",
    "SQLITE_LOCKED": "locked",
    "SQLITE_FULL": "full",
    "SQLITE_CANTOPEN": "gone",
    "SQLITE_READONLY": "gone",
    "SQLITE_IOERR": "gone",
    "SQLITE_CORRUPT": "corrupt",
    "SQLITE_NOTADB": "corrupt",
}


class Postgres:
    """A PostgreSQL database, for many replicas.

    Args:
        url: Its address, with the password or without.

    Raises:
        SettingsError: The driver is not installed.
    """

    bucket = "FLOOR(time / ?)"

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise SettingsError(_INSTALL) from error
        self._url = url
        self._driver = psycopg

    def connect(self) -> Any:
        """Connect; a server that does not answer is given up after seconds."""
        return self._driver.connect(
            self._url,
            connect_timeout=CONNECT_S,
            application_name="guardrail-audit",
            options="-c statement_timeout=30000",
            keepalives_idle=30,
            tcp_user_timeout=30_000,
        )

    def sql(self, text: str) -> str:
        """Return it with ``%s`` for every ``?``."""
        return text.replace("?", "%s")

    def lock_schema(self, cursor: Any) -> None:
        """Take the advisory lock of this program; replicas start at the same time."""
        cursor.execute("SELECT pg_advisory_xact_lock(4842311)")

    @property
    def faults(self) -> tuple[type[Exception], ...]:
        """The driver's faults."""
        return (self._driver.Error, OSError)

    @property
    def refusals(self) -> tuple[type[Exception], ...]:
        """Values that PostgreSQL does not take."""
        return (self._driver.DataError, self._driver.IntegrityError)

    @property
    def missing(self) -> tuple[type[Exception], ...]:
        """PostgreSQL's error 42P01."""
        return (self._driver.errors.UndefinedTable,)

    def kind(self, error: Exception) -> str:
        """Return ``full``, ``locked``, ``gone`` or ``failed``."""
        state = str(getattr(error, "sqlstate", "") or "")
        if state == "53100":
            return "full"
        if state in ("55P03", "57014"):
            return "locked"
        lost = isinstance(error, (self._driver.OperationalError, self._driver.InterfaceError))
        return "gone" if lost or isinstance(error, OSError) else "failed"

    def moved(self) -> bool:
        """Never: a server that goes away breaks the connection."""
        return False


def backend_for(settings: AuditSettings) -> Backend:
    """Return the kind of database that the settings name.

    Raises:
        SettingsError: Its driver is not installed.
    """
    path = settings.sqlite_path
    return Postgres(settings.url) if path is None else Sqlite(path)
