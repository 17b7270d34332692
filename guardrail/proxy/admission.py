"""Who may come in while much is in progress, and what becomes of the others.

Shedding is early: a request that would only wait for its check to time out is turned away before
its body is read, so that those already admitted keep their verdicts in time. What turning away
means is the policy's failure mode: 503 with Retry-After where a rule fails closed, unchecked and
counted where all fail open.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from guardrail.check import Checker
from guardrail.decide import decide_failure
from guardrail.policy import Policy
from guardrail.proxy.limits import Limits
from guardrail.types import Direction, Role

__all__ = ["Admission", "Overload"]

WAIT_SHARE: Final = 0.5
"""Share of a check's time-out that may be spent waiting: the text behind it, such as the windows
of streams already admitted, has to be in time as well."""
LONGEST_RETRY_S: Final = 30


class Overload(Exception):  # noqa: N818  (a decision about load, turned into an answer)
    """Too much is in progress for one more request.

    Args:
        reason: A stable word for metrics: ``concurrency``, ``wait`` or ``memory``.
        retry_s: When the client may try again.
    """

    def __init__(self, reason: str, retry_s: int) -> None:
        self.reason = reason
        self.retry_s = retry_s
        super().__init__("The guardrail has more requests than it can check now.")


class Admission:
    """Counts what is in progress, and says whether there is room.

    Args:
        checker: Knows how long a text would wait.
        limits: Numbers and sizes.
    """

    def __init__(self, checker: Checker, limits: Limits) -> None:
        self._checker = checker
        self._limits = limits
        self.in_progress = 0
        self.body_bytes = 0

    @contextmanager
    def enter(self, policy: Policy) -> Iterator[None]:
        """Count a request in, and out when it is over.

        Args:
            policy: The policy in force; its time-out bounds the wait.

        Raises:
            Overload: There is no room.
        """
        wait_s = self._checker.expected_wait_s
        retry_s = min(max(math.ceil(wait_s), 1), LONGEST_RETRY_S)
        if self.in_progress >= self._limits.concurrency:
            raise Overload("concurrency", retry_s)
        if wait_s > policy.timeout_ms / 1000 * WAIT_SHARE:
            raise Overload("wait", retry_s)
        self.in_progress += 1
        try:
            yield
        finally:
            self.in_progress -= 1

    @contextmanager
    def memory(self) -> Iterator[_Budget]:
        """Return what counts the bytes of one body, until the request is over."""
        budget = _Budget(self, self._limits.body_memory_bytes)
        try:
            yield budget
        finally:
            self.body_bytes -= budget.taken


class _Budget:
    """The share of one body in what all bodies may take."""

    __slots__ = ("_admission", "_most", "taken")

    def __init__(self, admission: Admission, most: int) -> None:
        self._admission = admission
        self._most = most
        self.taken = 0

    def take(self, count: int) -> None:
        """Count more bytes of the body.

        Raises:
            Overload: All bodies together would be too large.
        """
        if self._admission.body_bytes + count > self._most:
            raise Overload("memory", 1)
        self._admission.body_bytes += count
        self.taken += count


def fails_closed(policy: Policy) -> bool:
    """Return whether a policy, or one that it may select, blocks what cannot be checked."""
    return any(
        decide_failure(one, direction, role, "overload").blocked
        for one in (policy, *(selection.policy for selection in policy.selections))
        for direction, role in (
            (Direction.INPUT, Role.TEXT),
            (Direction.OUTPUT, Role.ASSISTANT),
        )
    )
