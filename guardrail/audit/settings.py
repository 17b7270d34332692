"""Where the audit is kept, for how long, and with which key."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from guardrail.errors import SettingsError

__all__ = ["KEY_VARIABLE", "AuditSettings", "default_url", "read_key"]

KEY_VARIABLE: Final = "GUARDRAIL_AUDIT_KEY"
"""Environment variable with the key, or several separated by commas."""

_POSTGRES: Final = ("postgres", "postgresql")
MAX_KEY_BYTES: Final = 65_536
MAX_DAYS: Final = 1_000_000
MAX_ROWS: Final = 10**15
"""More than any database holds, and less than it counts to."""


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """What the operator sets for the audit.

    Args:
        url: ``sqlite:PATH`` or ``postgresql://user@host/database``.
        days: Records older than this are removed; 0 keeps them.
        rows: Most records that are kept, the newest ones; 0 for no limit.
        flush_s: Longest time between a decision and its record in the database, and so the most
            that a crash loses. The stated window is twice this, for the time of the write.
        queue: Most records that wait to be written.
        queue_bytes: Most text that waits to be written.
        key: Fernet key or keys, comma-separated; the first one encrypts and hashes, all decrypt.

    Raises:
        SettingsError: A value that cannot be used, with the flag to change.
    """

    url: str
    days: float = 30.0
    rows: int = 5_000_000
    flush_s: float = 0.5
    queue: int = 20_000
    queue_bytes: int = 64 << 20
    key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not (self.sqlite_path or self.is_postgres):
            raise SettingsError(
                f"--audit: '{self.place}' is neither sqlite:PATH nor postgresql://user@host/name; "
                "none turns the audit off"
            )
        for name, most in (("days", MAX_DAYS), ("rows", MAX_ROWS)):
            if not 0 <= getattr(self, name) <= most:  # NaN is neither
                raise SettingsError(f"--audit-{name}: use 0 (no limit) to {most:,}")
        if not 0.01 <= self.flush_s <= 60 or self.queue < 1 or self.queue_bytes < 1024:
            raise SettingsError("audit: use a flush of 0.01 to 60 s and a queue of 1 or more")

    @property
    def sqlite_path(self) -> str | None:
        """Path of the SQLite file, or None where the audit is kept elsewhere."""
        scheme, _, path = self.url.partition(":")
        if scheme != "sqlite" or not path:
            return None
        # Both spellings are in use: sqlite:audit.db, sqlite:///audit.db.
        return path[3:] if path.startswith("///") and not path.startswith("////") else path

    @property
    def is_postgres(self) -> bool:
        """Whether the audit is kept in PostgreSQL."""
        return self.url.partition("://")[0] in _POSTGRES and "://" in self.url

    @property
    def place(self) -> str:
        """The address without a password, fit for messages."""
        if self.sqlite_path:
            return self.url
        address, asks, _ = self.url.partition("?")  # libpq takes a password there, too
        shown = re.sub(r"^([^:]*:(?://)?[^:@/]*):.*@", r"\1:***@", address)
        return f"{shown}?***" if asks else shown

    @property
    def host(self) -> str:
        """Host of the database, or the file's name."""
        return urlsplit(self.url).hostname or Path(self.sqlite_path or "").name


def default_url() -> str:
    """Return the address of the database that is used where none is named.

    It lies below ``$XDG_STATE_HOME`` or ``~/.local/state``, where programs keep what should
    outlive a restart (XDG Base Directory Specification 0.8).
    """
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return f"sqlite:{Path(base) / 'guardrail' / 'audit.sqlite3'}"


def read_key(file: str | Path | None) -> str | None:
    """Return the key from a file, or else from the environment.

    Args:
        file: A file with one key a line, the first one in use; None for the environment.

    Returns:
        The keys, comma-separated, or None where there is none.

    Raises:
        SettingsError: The file cannot be read or is empty.
    """
    if file is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        with Path(file).open("rb") as opened:
            found = opened.read(MAX_KEY_BYTES).decode("ascii", "replace").split()
    except OSError as error:
        raise SettingsError(f"--audit-key-file: {file}: {error.strerror or error}") from error
    if not found:
        raise SettingsError(f"--audit-key-file: {file} is empty; `guardrail audit key` makes one")
    return ",".join(found)
