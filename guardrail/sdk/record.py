"""Decisions made in process, recorded in the audit where one is asked for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from guardrail.errors import SettingsError

if TYPE_CHECKING:
    from guardrail.audit import AuditLog, AuditSettings, Trail
    from guardrail.policy import Policy

__all__ = ["open_log", "recorded", "trail_of"]

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


def recorded(items: Iterator[T], trail: Trail | None) -> Iterator[T]:
    """Record the answer when a guarded stream is over.

    Args:
        items: The guarded stream.
        trail: Its record, if there is one.
    """
    return items if trail is None else _until_over(items, trail)


def _until_over(items: Iterator[T], trail: Trail) -> Iterator[T]:
    try:
        yield from items
    finally:
        trail.finish("ended")
