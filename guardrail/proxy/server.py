"""The process around the proxy: its application, its own endpoints, signals and shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from guardrail.classifier.base import Classifier
from guardrail.policy import Policy
from guardrail.proxy.admin import admin_site
from guardrail.proxy.app import Proxy
from guardrail.proxy.connections import Connections, attend
from guardrail.proxy.http import begun, one_answer
from guardrail.proxy.pulse import Pulse
from guardrail.proxy.settings import Settings
from guardrail.proxy.tracing import open_tracing

__all__ = ["PROXY", "listen", "make_app", "run", "serve"]

PROXY: Final = web.AppKey("proxy", Proxy)

BACKLOG: Final = 1_024
"""Connections that may wait to be accepted: a burst of clients is no reason to refuse any."""

log = logging.getLogger("guardrail.proxy")


def make_app(settings: Settings, policy: Policy, classifier: Classifier) -> web.Application:
    """Build the proxy's application.

    Args:
        settings: What the operator set.
        policy: The policy in force.
        classifier: What scores texts.

    Returns:
        An aiohttp application; run it with ``handler_cancellation=True`` so that a client that
        leaves also ends its upstream request.

    Raises:
        SettingsError: The keys file or the tracing that is asked for cannot be used.
    """
    proxy = Proxy(settings, policy, classifier, open_tracing())
    middlewares: list[Middleware] = [
        attend,
        one_answer,
        *([proxy.keys.middleware] if proxy.keys else []),
    ]
    app = web.Application(client_max_size=settings.max_request_bytes, middlewares=middlewares)
    app.on_response_prepare.append(begun)
    app[PROXY] = proxy
    app.router.add_get("/health/live", proxy.own.live)
    app.router.add_get("/health/ready", proxy.own.ready)
    app.router.add_get("/metrics", proxy.own.metrics)
    app.router.add_route("*", "/{path:.*}", proxy.handle)

    async def life(_: web.Application) -> object:
        pulse = Pulse(proxy.metrics, proxy.own.set_gauges)
        if proxy.audit is not None:
            await asyncio.to_thread(proxy.audit.start)
        await proxy.reloader.start()
        if proxy.keys:
            await proxy.keys.start()
        await proxy.upstream.start()
        pulse.start()
        yield
        await pulse.close()
        if proxy.keys:
            await proxy.keys.close()
        await proxy.reloader.close()
        await proxy.checker.close()
        await proxy.upstream.close()
        if proxy.audit is not None:
            await asyncio.to_thread(proxy.audit.close)
        await asyncio.to_thread(proxy.tracing.close)

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
        GuardrailError: The policy or a setting cannot be used.
    """
    asyncio.run(run(make_app(settings, policy, classifier), settings, started))


async def run(
    app: web.Application,
    settings: Settings,
    started: Callable[[int], None],
    *,
    shared: bool = False,
    parent: int | None = None,
) -> None:
    """Run an application until the process is asked to stop, then drain it.

    Args:
        app: From `make_app`.
        settings: What the operator set.
        started: Called with the port once it listens.
        shared: Whether other processes listen on the same port.
        parent: A file descriptor that is closed when the parent process is gone; that stops
            this one as SIGTERM does.

    Raises:
        OSError: The address cannot be listened on.
    """
    _allow_files()
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    proxy, limits = app[PROXY], settings.limits
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=limits.drain_s,
        keepalive_timeout=limits.idle_s,
        max_line_size=limits.header_bytes,
        max_field_size=limits.header_bytes,
    )
    await runner.setup()
    admin = AsyncExitStack()
    try:
        if settings.admin is not None:
            await admin.enter_async_context(admin_site(settings.admin, proxy, shared=shared))
        server, connections = await listen(runner, settings, shared=shared)
        signals = (signal.SIGTERM, signal.SIGINT) if parent is None else (signal.SIGTERM,)
        _on_signals(loop, stopped, connections, proxy, signals)
        if parent is not None:
            loop.add_reader(parent, stopped.set)
        started(server.sockets[0].getsockname()[1])
        await stopped.wait()
        if parent is not None:
            loop.remove_reader(parent)
        # Readiness is false from here on; whoever balances the load has a while to notice.
        proxy.own.draining = True
        await asyncio.sleep(limits.drain_delay_s)
        server.close()
    finally:
        await admin.aclose()
        await runner.cleanup()


async def listen(
    runner: web.AppRunner, settings: Settings, *, shared: bool = False
) -> tuple[asyncio.Server, Connections]:
    """Listen for clients, each within the limits.

    Args:
        runner: An application that was set up.
        settings: Address and limits.
        shared: Whether other processes listen on the same port.

    Returns:
        What listens, and the connections that it takes.

    Raises:
        OSError: The address cannot be listened on.
    """
    proxy = runner.app[PROXY]
    assert runner.server is not None, "set the runner up first"
    connections = Connections(
        runner.server, settings.limits, lambda why: proxy.metrics.cut_connections.labels(why).inc()
    )
    proxy.own.connections = lambda: len(connections.open)
    server = await asyncio.get_running_loop().create_server(
        connections, settings.host, settings.port, backlog=BACKLOG, reuse_port=shared or None
    )
    return server, connections


def _on_signals(
    loop: asyncio.AbstractEventLoop,
    stopped: asyncio.Event,
    connections: Connections,
    proxy: Proxy,
    signals: Sequence[signal.Signals],
) -> None:
    def stop() -> None:
        if stopped.is_set():  # asked twice: at once
            connections.abort()
        stopped.set()

    def reload() -> None:
        proxy.reloader.request()
        if proxy.keys:
            proxy.keys.request()

    for number in signals:
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)


def _allow_files() -> None:
    """Raise the soft limit on open files to the hard one: each stream takes two connections."""
    try:
        import resource
    except ImportError:  # no such limit on this system
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
