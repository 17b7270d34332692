"""Hot reload: a policy file that changes is loaded anew; one that cannot be used is refused.

The files are looked at every few seconds, and at once on SIGHUP. Loading, fitting and resolving
happen in a thread, so that no request waits; an exchange keeps the policy that it began with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Protocol

from guardrail.check import Checker
from guardrail.errors import GuardrailError
from guardrail.policy import Policy, load_policy
from guardrail.proxy.metrics import Metrics

__all__ = ["Reloader"]

log = logging.getLogger("guardrail.proxy")

Stamp = tuple[tuple[str, int, int], ...]


class _Holder(Protocol):
    """Who has the policy in force."""

    policy: Policy
    checker: Checker
    metrics: Metrics


class Reloader:
    """Keeps the policy in force up to date with its files.

    Args:
        holder: Who has the policy in force.
        every_s: Seconds between looks at the files; 0 looks only when asked to.
    """

    def __init__(self, holder: _Holder, every_s: float) -> None:
        self._holder = holder
        self._every_s = every_s
        self._file = holder.policy.file
        self._sources = _sources(holder.policy)
        self._stamp: Stamp = ()
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Prepare the first policy, then watch its files.

        Raises:
            GuardrailError: The first policy cannot be used: there is none to fall back on.
        """
        adopt = self._holder.checker.adopt
        self._stamp = _stamp(self._sources)
        self._holder.policy = await asyncio.to_thread(adopt, self._holder.policy)
        if self._file is not None:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def request(self) -> None:
        """Load the policy now, changed or not; what SIGHUP does."""
        self._asked.set()

    async def _watch(self) -> None:
        while True:
            asked = False
            try:
                async with asyncio.timeout(self._every_s or None):
                    asked = await self._asked.wait()
            except TimeoutError:
                pass
            self._asked.clear()
            stamp = _stamp(self._sources)
            if asked or stamp != self._stamp:
                self._stamp = stamp
                try:
                    await self.reload()
                except Exception:  # a watcher that ends would miss every later change
                    log.exception("the policy could not be read, the last one stays in force")

    async def reload(self) -> bool:
        """Load the policy from its file and put it in force; return whether that was possible."""
        holder = self._holder
        try:
            loaded, settled = await asyncio.to_thread(self._load)
        except GuardrailError as error:
            log.warning("policy refused, %s stays in force: %s", holder.policy.identity, error)
            holder.metrics.reloads.labels("refused").inc()
            return False
        self._sources = _sources(loaded)
        self._stamp = _stamp(self._sources)
        changed = settled.content_hash != holder.policy.content_hash
        if changed:
            log.warning("policy %s replaces %s", settled.identity, holder.policy.identity)
        holder.policy = settled
        holder.metrics.reloads.labels("loaded" if changed else "unchanged").inc()
        return True

    def _load(self) -> tuple[Policy, Policy]:
        assert self._file is not None
        loaded = load_policy(Path(self._file))
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
