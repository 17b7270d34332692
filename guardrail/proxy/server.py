"""The process around the proxy: its application, its own endpoints, signals and shutdown."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Final

from aiohttp import web

from guardrail.classifier.base import Classifier
from guardrail.policy import Policy
from guardrail.proxy.app import Proxy
from guardrail.proxy.reload import Reloader
from guardrail.proxy.settings import Settings

__all__ = ["RELOADER", "make_app", "serve"]

RELOADER: Final = web.AppKey("reloader", Reloader)

SHUTDOWN_S: Final = 30.0
"""Longest wait for open answers on SIGTERM."""


def make_app(settings: Settings, policy: Policy, classifier: Classifier) -> web.Application:
    """Build the proxy's application.

    Args:
        settings: What the operator set.
        policy: The policy in force.
        classifier: What scores texts.

    Returns:
        An aiohttp application; run it with ``handler_cancellation=True`` so that a client that
        leaves also ends its upstream request.
    """
    proxy = Proxy(settings, policy, classifier)
    app = web.Application(client_max_size=settings.max_request_bytes)
    app[RELOADER] = proxy.reloader
    app.router.add_get("/health/live", proxy.live)
    app.router.add_get("/health/ready", proxy.ready)
    app.router.add_get("/metrics", proxy.show_metrics)
    app.router.add_route("*", "/{path:.*}", proxy.handle)

    async def life(_: web.Application) -> object:
        if proxy.audit is not None:
            await asyncio.to_thread(proxy.audit.start)
        await proxy.reloader.start()
        await proxy.upstream.start()
        yield
        await proxy.reloader.close()
        await proxy.checker.close()
        await proxy.upstream.close()
        if proxy.audit is not None:
            await asyncio.to_thread(proxy.audit.close)

    app.cleanup_ctx.append(life)  # type: ignore[arg-type]
    return app


def serve(
    settings: Settings,
    policy: Policy,
    classifier: Classifier,
    started: Callable[[int], None],
) -> None:
    """Run the proxy until SIGINT or SIGTERM; open answers may finish for a while.

    Args:
        settings: What the operator set.
        policy: The policy in force.
        classifier: What scores texts.
        started: Called with the port once it listens.

    Raises:
        OSError: The address cannot be listened on.
    """
    asyncio.run(_serve(make_app(settings, policy, classifier), settings, started))


async def _serve(app: web.Application, settings: Settings, started: Callable[[int], None]) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, app[RELOADER].request)
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        started(runner.addresses[0][1])
        await stopped.wait()
    finally:
        await runner.cleanup()
