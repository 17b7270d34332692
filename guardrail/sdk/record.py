"""Decisions made in process, recorded in the audit where one is asked for."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from guardrail.errors import SettingsError

if TYPE_CHECKING:
    from guardrail.audit import AuditLog, AuditSettings, Trail
    from guardrail.policy import Policy
    from guardrail.sdk.codecs import Codec
    from guardrail.sdk.streams import Ending
    from guardrail.types import Verdict

__all__ = ["Noting", "open_log", "recorded", "trail_of"]

T = TypeVar("T")


def open_log(audit: AuditLog | AuditSettings | str | None, policy: Policy) -> AuditLog | None:
    """Return a log that is started; one that is handed in is already.

    Args:
        audit: The place, settings or log; None for none.
        policy: What it must be able to keep.

    Raises:
        SettingsError: It cannot be opened, or not keep texts as the policy says; or there is none
            and the policy requires one.
    """
    if audit is None:
        if policy.audit.required:
            raise SettingsError(
                f"{policy.file or 'policy ' + policy.name}: 'audit.required' is true and no audit "
                f"is configured; name one, Guardrail.load({policy.name!r}, "
                "audit='sqlite:audit.sqlite3'), and hand that Guardrail on in place of the "
                "policy's name, or take 'required' out of the policy"
            )
        return None
    from guardrail.audit import AuditLog, AuditSettings, read_key

    if isinstance(audit, AuditLog):
        audit.require(policy)
        return audit
    settings = AuditSettings(audit, key=read_key(None)) if isinstance(audit, str) else audit
    log = AuditLog(settings)
    log.require(policy)
    log.start()
    return log


def trail_of(log: AuditLog | None, policy: Policy) -> Trail | None:
    """Return what records the decisions of one call, or None where nothing does."""
    if log is None:
        return None
    from guardrail.audit import Origin

    return log.trail(Origin(uuid.uuid4().hex, "sdk"), policy)


class Noting(Generic[T]):
    """Passes on what becomes of a stream, and keeps it for the record.

    Args:
        ending: What is done about it.
    """

    def __init__(self, ending: Ending[T]) -> None:
        self._ending = ending
        self._verdict: Verdict | None = None
        self._fault: str | None = None

    def flagged(self, verdict: Verdict) -> None:
        """See `guardrail.sdk.streams.Ending.flagged`."""
        self._ending.flagged(verdict)

    def blocked(self, verdict: Verdict, codec: Codec[T]) -> Iterable[T]:
        """See `guardrail.sdk.streams.Ending.blocked`."""
        self._verdict = verdict
        return self._ending.blocked(verdict, codec)

    def unreadable(self, codec: Codec[T]) -> Iterable[T]:
        """See `guardrail.sdk.streams.Ending.unreadable`."""
        self._fault = "unreadable"
        return self._ending.unreadable(codec)

    def finish(self, trail: Trail) -> None:
        """Record the answer, which is over."""
        trail.finish("ended", fault=self._fault, verdict=self._verdict)


def recorded(items: Iterator[T], trail: Trail, noting: Noting[T]) -> Iterator[T]:
    """Record the answer when a guarded stream is over.

    Args:
        items: The guarded stream.
        trail: Its record.
        noting: What became of it.
    """
    try:
        yield from items
    finally:
        noting.finish(trail)
