"""Hot reload: a policy file that changes is loaded anew; one that cannot be used is refused.

The files are looked at every few seconds, and at once on SIGHUP. Loading, fitting and resolving
happen in a thread, so that no request waits; an exchange keeps the policy that it began with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from guardrail.audit import AuditLog
from guardrail.check import Checker
from guardrail.errors import GuardrailError, SettingsError
from guardrail.policy import Policy, load_policy
from guardrail.proxy.metrics import Metrics

__all__ = ["FileWatch", "Reloader", "admit_policy"]

log = logging.getLogger("guardrail.proxy")

Stamp = tuple[tuple[str, int, int], ...]


def admit_policy(policy: Policy, audit: AuditLog | None) -> None:
    """Make sure that the decisions of a policy can be recorded as it says.

    Args:
        policy: The policy; those that it selects count too.
        audit: Where decisions are recorded; None for no audit.

    Raises:
        SettingsError: They cannot, for want of an audit, a key or a package.
    """
    if audit is not None:
        audit.require(policy)
        return
    for one in (policy, *(selection.policy for selection in policy.selections)):
        if one.audit.required:
            raise SettingsError(
                f"{one.file or 'policy ' + one.name}: 'audit.required' is true and there is no "
                "audit; name a database with --audit, or take 'required' out of the policy"
            )


class FileWatch:
    """Calls a function when one of some files has changed, and when it is asked to.

    Args:
        sources: The files, not read yet: what changes from here on is a change.
        every_s: Seconds between looks at the files; 0 looks only when asked to.
        changed: What to call. It may set `sources`; files that were not watched before are a
            change at the next look, since nothing is known of their state when they were read.
    """

    def __init__(
        self, sources: tuple[str, ...], every_s: float, changed: Callable[[], Awaitable[object]]
    ) -> None:
        self.sources = sources
        self._stamp = _stamp(sources)
        self._every_s = every_s
        self._changed = changed
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def request(self) -> None:
        """Call the function now, whether or not a file has changed."""
        self._asked.set()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s or None):
                    await self._asked.wait()
            asked = self._asked.is_set()
            self._asked.clear()
            stamp = _stamp(self.sources)
            if not asked and stamp == self._stamp:
                continue
            # Before they are read: what is saved meanwhile is another change.
            self._stamp = stamp
            try:
                await self._changed()
            except Exception:  # a watcher that ends would miss every later change
                log.exception("%s could not be read, the last one stays in force", self.sources[0])


class _Holder(Protocol):
    """Who has the policy in force."""

    policy: Policy
    checker: Checker
    metrics: Metrics
    audit: AuditLog | None


class Reloader:
    """Keeps the policy in force up to date with its files.

    Args:
        holder: Who has the policy in force.
        every_s: Seconds between looks at the files; 0 looks only when asked to.
    """

    def __init__(self, holder: _Holder, every_s: float) -> None:
        self._holder = holder
        self._file = holder.policy.file
        self._files = FileWatch(_sources(holder.policy), every_s, self.reload)

    async def start(self) -> None:
        """Prepare the first policy, as its files are by now, then watch them.

        Raises:
            GuardrailError: The first policy cannot be used: there is none to fall back on.
        """
        self._holder.policy = await self._load()
        if self._file is not None:
            self._files.start()

    async def close(self) -> None:
        """Stop watching."""
        await self._files.close()

    def request(self) -> None:
        """Load the policy now, changed or not; what SIGHUP does."""
        self._files.request()

    async def reload(self) -> bool:
        """Load the policy from its file and put it in force; return whether that was possible."""
        holder = self._holder
        try:
            settled = await self._load()
        except GuardrailError as error:
            log.warning("policy refused, %s stays in force: %s", holder.policy.identity, error)
            holder.metrics.reloads.labels("refused").inc()
            return False
        changed = settled.content_hash != holder.policy.content_hash
        if changed:
            log.warning("policy %s replaces %s", settled.identity, holder.policy.identity)
        holder.policy = settled
        holder.metrics.reloads.labels("loaded" if changed else "unchanged").inc()
        return True

    async def _load(self) -> Policy:
        loaded, settled = await asyncio.to_thread(self._prepare)
        self._files.sources = _sources(loaded)
        return settled

    def _prepare(self) -> tuple[Policy, Policy]:
        """Return the policy as its files have it, and as it decides."""
        loaded = self._holder.policy if self._file is None else load_policy(Path(self._file))
        admit_policy(loaded, self._holder.audit)
        return loaded, self._holder.checker.adopt(loaded)


def _sources(policy: Policy) -> tuple[str, ...]:
    own = [policy.file] if policy.file else []
    data = (
        [str(Path(policy.file).parent / policy.calibration)]
        if policy.file and policy.calibration
        else []
    )
    return tuple(dict.fromkeys([*own, *policy.sources, *data]))


def _stamp(sources: tuple[str, ...]) -> Stamp:
    """Return what tells one state of the files from another; a missing file counts as a state."""
    found = []
    for source in sources:
        try:
            state = Path(source).stat()
        except OSError:
            found.append((source, -1, -1))
        else:
            found.append((source, state.st_mtime_ns, state.st_size))
    return tuple(found)
