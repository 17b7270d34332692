"""The exception tree, named by who is at fault.

    GuardrailError
    ├── PolicyError     the author of a policy: file, line, column and the fix
    ├── BundleError     a model folder: missing, damaged or of another version
    ├── WireError       a peer: a body or a frame that is not what its protocol says
    ├── CheckError      us: a check that failed, timed out or was refused for load
    ├── SettingsError   the operator: a flag, variable or settings file
    ├── DataError       the author of a data file: file, line and the fix
    └── GuardrailBlocked  not a fault: a check in process decided to block

A message names the file, the field and the fix. `asyncio.CancelledError` is never caught by a
handler for these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardrail.types import Verdict

__all__ = [
    "BundleError",
    "CheckError",
    "DataError",
    "GuardrailBlocked",
    "GuardrailError",
    "PolicyError",
    "SettingsError",
    "WireError",
]


class GuardrailError(Exception):
    """Base of every exception that this package raises on purpose."""


class PolicyError(GuardrailError):
    """A policy that does not validate.

    Args:
        message: What is wrong and how to fix it.
        file: Name of the policy file, if it came from one.
        line: 1-based line, if known.
        column: 1-based column, if known.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        self.reason = message
        self.file = file
        self.line = line
        self.column = column
        place = ":".join(str(part) for part in (file, line, column) if part is not None)
        super().__init__(f"{place}: {message}" if place else message)


class BundleError(GuardrailError):
    """A model bundle that is missing, damaged or of another format version."""


class WireError(GuardrailError):
    """A peer sent something that its own protocol does not allow.

    Args:
        message: What is wrong, in words fit for the peer: no traceback, no prompt text.
        param: The field at fault in the peer's own terms, such as ``messages[0].content``.
    """

    def __init__(self, message: str, *, param: str | None = None) -> None:
        self.param = param
        super().__init__(message)


class CheckError(GuardrailError):
    """A check could not be made; `decide` turns it into an action by the failure mode.

    Args:
        message: What failed.
        reason: A short stable word for metrics and audit: ``timeout``, ``overload``,
            ``failure`` or ``too_large``.
    """

    def __init__(self, message: str, *, reason: str = "failure") -> None:
        self.reason = reason
        super().__init__(message)


class SettingsError(GuardrailError):
    """A setting of the operator that cannot be used."""


class DataError(GuardrailError):
    """A data file (JSONL of texts or labels) that cannot be read."""


class GuardrailBlocked(GuardrailError):  # noqa: N818  (a decision, not an error)
    """Raised in process when a check blocks a call.

    Args:
        verdict: The verdict that blocked it.
    """

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        names = ", ".join(verdict.categories) or "failed check"
        super().__init__(f"blocked on {verdict.direction.value}: {names}")
