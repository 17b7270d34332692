"""Endpoints that need no upstream: moderations, LiteLLM's questions, health and metrics."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from guardrail.audit import AuditLog, Origin, Trail
from guardrail.check import Checker
from guardrail.errors import WireError
from guardrail.policy import Policy
from guardrail.proxy.admission import Admission, Overload
from guardrail.proxy.choice import chosen
from guardrail.proxy.http import read_body, respond, status_of
from guardrail.proxy.keys import CLIENT, POLICY
from guardrail.proxy.litellm import answer_litellm
from guardrail.proxy.metrics import Metrics
from guardrail.proxy.moderate import moderate
from guardrail.proxy.notices import Notices
from guardrail.proxy.settings import Settings
from guardrail.wire import WIRES, Reply
from guardrail.wire.routes import Route

__all__ = ["Own"]


_Watch = Trail | None


class _Proxy(Protocol):
    """Who has what is in force."""

    policy: Policy
    settings: Settings
    checker: Checker
    admission: Admission
    metrics: Metrics
    audit: AuditLog | None

    def trail(self, origin: Origin, policy: Policy) -> Trail | None:
        """Return what records the decisions of one request, where there is an audit."""
        ...


class Own:
    """The proxy's own endpoints.

    Args:
        proxy: Who has the policy in force and everything else.
    """

    def __init__(self, proxy: _Proxy) -> None:
        self._proxy = proxy
        self.draining = False
        self.connections: Callable[[], int] = lambda: 0

    async def moderate(self, client: web.Request, route: Route) -> web.Response:
        """Answer ``/v1/moderations``."""

        async def answer(policy: Policy, body: bytes, request_id: str, watch: _Watch) -> Reply:
            checker = self._proxy.checker
            return await moderate(checker, policy, WIRES["openai.chat"], body, request_id, watch)

        return await self._serve(client, route, answer, "openai.moderations")

    async def ask(self, client: web.Request, route: Route) -> web.Response:
        """Answer a question of a LiteLLM proxy."""

        async def answer(policy: Policy, body: bytes, _: str, watch: _Watch) -> Reply:
            return await answer_litellm(self._proxy.checker, policy, body, watch)

        return await self._serve(client, route, answer, "litellm")

    async def _serve(
        self,
        client: web.Request,
        route: Route,
        answer: Callable[[Policy, bytes, str, _Watch], Awaitable[Reply]],
        dialect: str,
    ) -> web.Response:
        request_id = uuid.uuid4().hex
        proxy, settings = self._proxy, self._proxy.settings
        policy = chosen(client.get(POLICY, proxy.policy), client, route.path, None)
        errors = WIRES["openai.chat"]
        headers = Notices(policy, request_id, settings).headers(None)
        try:
            with proxy.admission.enter(policy), proxy.admission.memory() as budget:
                body = await read_body(
                    client, settings.max_request_bytes, settings.read_timeout_s, budget.take
                )
                key = client.get(CLIENT, "")
                origin = Origin(request_id, "proxy", route.path, dialect, client=key)
                trail = proxy.trail(origin, policy)
                reply = await answer(policy, body, request_id, trail)
            if trail is not None:
                trail.finish("ok")
        except Overload as overload:
            proxy.metrics.shed.labels(overload.reason, "refused").inc()
            reply = errors.error(503, str(overload), type="api_error", code="overloaded")
            headers["Retry-After"] = str(overload.retry_s)
        except WireError as error:
            proxy.metrics.errors.labels(type(error).__name__).inc()
            reply = errors.error(
                status_of(error), str(error), type="invalid_request_error", param=error.param
            )
        return respond(reply, headers)

    async def live(self, _: web.Request) -> web.Response:
        """Say that the process runs."""
        return web.json_response({"status": "live"})

    async def ready(self, _: web.Request) -> web.Response:
        """Say what is in force, or that this process takes no more requests (503)."""
        audit = self._proxy.audit
        fault = audit.health.degraded if audit else None
        state = {"status": "draining" if self.draining else "degraded" if fault else "ready"}
        if audit is not None:
            state["audit"] = fault or "ok"
        state["policy"] = self._proxy.policy.identity
        state["model"] = self._proxy.checker.classifier.model_id
        return web.json_response(state, status=503 if self.draining else 200)

    def set_gauges(self) -> None:
        """Set the metrics of what is so at this moment."""
        metrics, checker = self._proxy.metrics, self._proxy.checker
        metrics.open_connections.set(self.connections())
        metrics.requests_in_progress.set(self._proxy.admission.in_progress)
        metrics.queued_chars.set(checker.queued_chars)
        metrics.expected_wait_seconds.set(checker.expected_wait_s)

    async def metrics(self, _: web.Request) -> web.Response:
        """Return the metrics for Prometheus."""
        self.set_gauges()
        return web.Response(
            body=self._proxy.metrics.render(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )
