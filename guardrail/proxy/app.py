"""The server: which request is checked how, and what each fault looks like to the client."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import web
from prometheus_client import Counter

from guardrail.audit import AuditLog, Origin, Trail
from guardrail.check import Checker, Watch
from guardrail.classifier.base import Classifier
from guardrail.decide import decide_failure
from guardrail.errors import WireError
from guardrail.policy import InputCheck, Policy
from guardrail.proxy.answer import Answer, Notices
from guardrail.proxy.http import copy, gone, passing_body, read_body, respond, status_of
from guardrail.proxy.litellm import answer_litellm
from guardrail.proxy.litellm_upstream import LiteLLMUpstream
from guardrail.proxy.metrics import Metrics
from guardrail.proxy.moderate import moderate
from guardrail.proxy.paths import Route, route_of
from guardrail.proxy.reload import Reloader
from guardrail.proxy.settings import Settings
from guardrail.proxy.upstream import Upstream, UpstreamAnswer, UpstreamError, forwardable
from guardrail.relay import Result
from guardrail.types import Action, Direction, Role, Verdict
from guardrail.wire import WIRES, Reply, Wire, WireRequest, wire_for
from guardrail.wire.litellm_api import LITELLM_PATH

__all__ = ["Proxy"]

log = logging.getLogger("guardrail.proxy")

LARGE_BYTES: Final = 262_144
"""From here on a body is read in a thread, so that it does not hold up other streams."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(slots=True)
class _Exchange:
    """What is known about one guarded request so far; filled in on its way."""

    id: str
    policy: Policy
    wire: Wire
    notices: Notices
    started: float
    request: WireRequest | None = None
    input: Verdict | None = None
    result: Result | None = None
    ended: str = "ok"
    trail: Trail | None = None


class Proxy:
    """Routes, checks and relays.

    Args:
        settings: What the operator set.
        policy: The policy in force.
        classifier: What scores texts; not closed by the proxy.

    Raises:
        SettingsError: The audit cannot be kept as the settings and the policy say.
    """

    def __init__(self, settings: Settings, policy: Policy, classifier: Classifier) -> None:
        self.settings = settings
        self.policy = policy
        self.metrics = Metrics()
        self.audit = (
            None if settings.audit is None else AuditLog(settings.audit, self.metrics.audit)
        )
        if self.audit is not None:
            self.audit.require(policy)
        self.checker = Checker(
            classifier, observer=self.metrics.check, shadow_observer=self.metrics.shadow
        )
        self._no_rules = self.metrics.bypasses.labels("no_rules")
        self._no_path = self.metrics.bypasses.labels("path")
        self.upstream = (
            Upstream(settings)
            if settings.models is None
            else LiteLLMUpstream(settings, settings.models)
        )
        self.reloader = Reloader(self, settings.reload_s)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request that is not for the proxy itself."""
        route = route_of(request)
        if request.method == "POST" and route.endpoint == "moderations":
            return await self._serve_own(request, route, self._moderate, "openai.moderations")
        if request.method == "POST" and request.path == LITELLM_PATH:
            return await self._serve_own(request, route, self._ask, "litellm")
        wire = wire_for(f"/v1/{route.endpoint}")
        carries = route.stored or request.body_exists or request.method == "POST"
        if wire is None or not carries:
            return await self._pass_through(request)
        # One policy from here to the end, whatever is loaded meanwhile.
        policy = self.policy
        if not any(_judges(p) for p in (policy, *(s.policy for s in policy.selections))):
            return await self._unchecked(request, route.path, self._no_rules)
        request_id = uuid.uuid4().hex
        accepts = request.headers.get("Accept-Language", "")
        notices = Notices(policy, request_id, self.settings, accepts)
        exchange = _Exchange(request_id, policy, wire, notices, time.monotonic())
        try:
            return await self._exchange(exchange, request, route)
        except WireError as error:
            exchange.ended = "invalid"
            return self._error(exchange, status_of(error), str(error), param=error.param)
        except UpstreamError as error:
            exchange.ended = f"upstream_{error.kind}"
            self.metrics.upstream_errors.labels(error.kind).inc()
            return self._error(exchange, error.status, error.message)
        except asyncio.CancelledError:
            exchange.ended = "disconnect"
            raise
        except ConnectionResetError:
            exchange.ended = "disconnect"
            return gone(request)
        except Exception:  # the last resort: no traceback to the client
            exchange.ended = "fault"
            log.exception("request %s failed", exchange.id)
            return self._error(exchange, 500, "The guardrail failed on this request.")
        finally:
            self._account(exchange)

    async def _moderate(
        self, policy: Policy, body: bytes, request_id: str, watch: Watch | None
    ) -> Reply:
        return await moderate(self.checker, policy, WIRES["openai.chat"], body, request_id, watch)

    async def _ask(self, policy: Policy, body: bytes, _: str, watch: Watch | None) -> Reply:
        return await answer_litellm(self.checker, policy, body, watch)

    async def _serve_own(
        self,
        client: web.Request,
        route: Route,
        answer: Callable[[Policy, bytes, str, Watch | None], Awaitable[Reply]],
        dialect: str,
    ) -> web.Response:
        """Serve an endpoint that needs no upstream from the policy in force."""
        request_id = uuid.uuid4().hex
        policy = _chosen(self.policy, client, route.path, None)
        trail = self._trail(Origin(request_id, "proxy", route.path, dialect), policy)
        try:
            reply = await answer(policy, await self._read(client), request_id, trail)
            if trail is not None:
                trail.finish("ok")
        except WireError as error:
            reply = WIRES["openai.chat"].error(
                status_of(error), str(error), type="invalid_request_error", param=error.param
            )
        return respond(reply, Notices(policy, request_id, self.settings).headers(None))

    async def _exchange(
        self, exchange: _Exchange, client: web.Request, route: Route
    ) -> web.StreamResponse:
        body = await self._read(client)
        request = exchange.request = await _read_request(exchange.wire, body, route)
        policy = exchange.policy = _chosen(exchange.policy, client, route.path, request.model)
        accepts = client.headers.get("Accept-Language", "")
        exchange.notices = Notices(policy, exchange.id, self.settings, accepts)
        if not _judges(policy):
            self._no_rules.inc()
            return await self._forward(client, route.path, body)
        origin = Origin(exchange.id, "proxy", route.path, exchange.wire.name, request.model or "")
        exchange.trail = self._trail(origin, policy)
        before = policy.input_check is InputCheck.BEFORE
        async with AsyncExitStack() as stack:
            check = asyncio.ensure_future(self._judge(exchange, request))
            stack.callback(check.cancel)
            if before and (refusal := await self._refusal(exchange, check)) is not None:
                return refusal
            url = self.upstream.url(route.path, client.rel_url.raw_query_string)
            sent = body if client.body_exists else None
            answer = await stack.enter_async_context(
                self.upstream.open(client.method, url, client.headers, sent, decode=True)
            )
            if not before and (refusal := await self._refusal(exchange, check)) is not None:
                return refusal
            return await self._answer(exchange, client, request, answer)

    def _trail(self, origin: Origin, policy: Policy) -> Trail | None:
        return None if self.audit is None else self.audit.trail(origin, policy)

    async def _judge(self, exchange: _Exchange, request: WireRequest) -> Verdict:
        """Judge a request; one that must be recorded and cannot be is a failed check."""
        policy = exchange.policy
        if policy.audit.required and self.audit is not None and not self.audit.accepts:
            return decide_failure(policy, Direction.INPUT, Role.TEXT, "audit")
        return await self.checker.check_input(
            policy, request.segments, opaque=request.opaque, watch=exchange.trail
        )

    async def _refusal(
        self, exchange: _Exchange, check: asyncio.Future[Verdict]
    ) -> web.Response | None:
        """Wait for the verdict on the input; return the refusal if it blocks."""
        verdict = exchange.input = await check
        if not verdict.blocked:
            return None
        exchange.ended = "blocked_input"
        reply = exchange.wire.input_refusal(exchange.request, exchange.notices.notice(verdict))
        return respond(reply, exchange.notices.headers(verdict))

    async def _answer(
        self,
        exchange: _Exchange,
        client: web.Request,
        request: WireRequest,
        upstream: UpstreamAnswer,
    ) -> web.StreamResponse:
        headers = forwardable(upstream.headers, drop=("content-length", "content-encoding"))
        headers.update(exchange.notices.headers(exchange.input))
        if upstream.status in _REDIRECTS:  # it would lead the client past the guardrail
            raise UpstreamError("redirect", 502, "The model API answered with a redirect.")
        if not 200 <= upstream.status < 300:
            exchange.ended = f"upstream_{upstream.status}"
        if not exchange.policy.applies(Direction.OUTPUT):
            return await copy(client, upstream, headers)
        answer = Answer(
            self.checker,
            exchange.policy,
            exchange.wire,
            request,
            exchange.notices,
            self.settings.max_response_bytes,
            exchange.trail,
        )
        with self.metrics.open_streams.track_inprogress():
            response, exchange.result = await answer.relay(client, upstream, headers)
        return response

    async def _read(self, client: web.Request) -> bytes:
        return await read_body(
            client, self.settings.max_request_bytes, self.settings.read_timeout_s
        )

    async def _pass_through(self, client: web.Request) -> web.StreamResponse:
        """Forward a request that is not guarded, if the settings allow it."""
        if not self.settings.passthrough:
            message = f"{client.method} {client.path} is not guarded, and only guarded paths pass."
            return web.json_response(
                {
                    "error": {
                        "message": message,
                        "type": "invalid_request_error",
                        "param": None,
                        "code": "path_not_allowed",
                    }
                },
                status=403,
            )
        return await self._unchecked(client, client.rel_url.raw_path, self._no_path)

    async def _unchecked(
        self, client: web.Request, path: str, count: Counter
    ) -> web.StreamResponse:
        """Forward a request that nothing is judged of, and count it as such."""
        count.inc()
        try:
            return await self._forward(client, path, await passing_body(client))
        except ConnectionResetError:
            return gone(client)
        except UpstreamError as error:
            self.metrics.upstream_errors.labels(error.kind).inc()
            reply = WIRES["openai.chat"].error(
                error.status, error.message, type="upstream_error", code="upstream_error"
            )
            return respond(reply, {})

    async def _forward(
        self, client: web.Request, path: str, body: bytes | aiohttp.StreamReader | None
    ) -> web.StreamResponse:
        url = self.upstream.url(path, client.rel_url.raw_query_string)
        opened = self.upstream.open(client.method, url, client.headers, body, decode=False)
        async with opened as upstream:
            return await copy(client, upstream, forwardable(upstream.headers))

    def _error(
        self, exchange: _Exchange, status: int, message: str, param: str | None = None
    ) -> web.Response:
        kind = "invalid_request_error" if status < 500 else "api_error"
        reply = exchange.wire.error(status, message, type=kind, param=param)
        return respond(reply, exchange.notices.headers(exchange.input))

    def _account(self, exchange: _Exchange) -> None:
        """Count the exchange and write its one line of log, which holds no text."""
        result = exchange.result
        output = result.verdict if result else None
        if output is not None and output.blocked:
            exchange.ended = "blocked_output"
        elif result is not None and result.fault is not None:
            exchange.ended = f"upstream_{result.fault}"
            self.metrics.upstream_errors.labels(result.fault).inc()
        if result is not None:
            self.metrics.stream(result.stats)
        if exchange.trail is not None:
            stats, fault = (result.stats, result.fault) if result else (None, None)
            exchange.trail.finish(exchange.ended, stats, fault)
        skipped = len(exchange.request.skipped) if exchange.request else 0
        if skipped:
            self.metrics.bypasses.labels("part").inc(skipped)
        self.metrics.requests.labels(exchange.wire.name, exchange.ended).inc()
        log.info(
            "%s %s %s input=%s output=%s skipped=%d %.0f ms",
            exchange.id,
            exchange.wire.name,
            exchange.ended,
            _brief(exchange.input),
            _brief(output),
            skipped,
            (time.monotonic() - exchange.started) * 1000,
        )

    # --- the proxy's own endpoints -------------------------------------------------------

    async def live(self, _: web.Request) -> web.Response:
        """Say that the process runs."""
        return web.json_response({"status": "live"})

    async def ready(self, _: web.Request) -> web.Response:
        """Say what is in force."""
        model = self.checker.classifier.model_id
        fault = self.audit.health.degraded if self.audit else None
        state = {"status": "degraded" if fault else "ready"}
        if self.audit is not None:
            state["audit"] = fault or "ok"
        return web.json_response({**state, "policy": self.policy.identity, "model": model})

    async def show_metrics(self, _: web.Request) -> web.Response:
        """Return the metrics for Prometheus."""
        return web.Response(
            body=self.metrics.render(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )


async def _read_request(wire: Wire, body: bytes, route: Route) -> WireRequest:
    if route.stored:
        return WireRequest(body, {})
    if len(body) < LARGE_BYTES:
        return wire.read_request(body)
    return await asyncio.to_thread(wire.read_request, body)


def _judges(policy: Policy) -> bool:
    return policy.applies(Direction.INPUT) or policy.applies(Direction.OUTPUT)


def _chosen(policy: Policy, client: web.Request, path: str, model: str | None) -> Policy:
    """Return the policy for a request, by its path, model, key and headers."""
    headers = {name.lower(): value for name, value in list(client.headers.items())[::-1]}
    bearer = headers.get("authorization", "")
    key = bearer[7:].strip() if bearer[:7].lower() == "bearer " else None
    key = key or headers.get("x-api-key") or headers.get("api-key")
    return policy.select(path, model, key, headers)


def _brief(verdict: Verdict | None) -> str:
    if verdict is None:
        return "-"
    names = "+".join(verdict.categories) if verdict.action is not Action.PASS else ""
    return f"{verdict.action.value}{':' + names if names else ''}"
