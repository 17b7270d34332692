"""Measures that nobody reports: how late the event loop is, and how full everything is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from guardrail.proxy.metrics import Metrics

__all__ = ["Pulse"]

EVERY_S: Final = 0.25


class Pulse:
    """Takes measures a few times a second while the proxy runs.

    Args:
        metrics: Where the lag of the event loop is counted.
        gauges: Sets the gauges; also called when metrics are asked for.
    """

    def __init__(self, metrics: Metrics, gauges: Callable[[], None]) -> None:
        self._metrics = metrics
        self._gauges = gauges
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._beat())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self._metrics.loop_lag_seconds.observe(max(loop.time() - due, 0.0))
            self._gauges()
