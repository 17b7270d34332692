"""The server: which request is checked how, and what each fault looks like to the client."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from aiohttp import web
from prometheus_client import Counter

from guardrail.audit import AuditLog, Origin, Trail
from guardrail.check import Checker
from guardrail.classifier.base import Classifier
from guardrail.errors import WireError
from guardrail.policy import InputCheck, Policy
from guardrail.proxy.admission import Admission, Overload, fails_closed
from guardrail.proxy.answer import Answer
from guardrail.proxy.choice import chosen, judges
from guardrail.proxy.exchange import Exchange
from guardrail.proxy.http import copy, gone, passing_body, read_body, respond, status_of
from guardrail.proxy.keys import CLIENT, HEADERS, POLICY, KeyRing
from guardrail.proxy.litellm_upstream import LiteLLMUpstream
from guardrail.proxy.metrics import Metrics
from guardrail.proxy.notices import Notices
from guardrail.proxy.own import Own
from guardrail.proxy.redaction import header_of, redacted
from guardrail.proxy.reload import Reloader, admit_policy
from guardrail.proxy.settings import Settings
from guardrail.proxy.tracing import NoTracing, Tracing
from guardrail.proxy.upstream import Upstream, UpstreamAnswer, UpstreamError, forwardable
from guardrail.redact import unredactable
from guardrail.types import Direction, Verdict
from guardrail.wire import WIRES, WireRequest
from guardrail.wire.litellm_api import LITELLM_PATH
from guardrail.wire.routes import Route, route_of

__all__ = ["Proxy"]

log = logging.getLogger("guardrail.proxy")

LARGE_BYTES: Final = 262_144
"""From here on a body is read in a thread, so that it does not hold up other streams."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Proxy:
    """Routes, checks and relays.

    Args:
        settings: What the operator set.
        policy: The policy in force.
        classifier: What scores texts; not closed by the proxy.
        tracing: Where spans go.

    Raises:
        SettingsError: The keys file cannot be used, or the audit cannot be kept as the settings
            and the policy say.
    """

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        classifier: Classifier,
        tracing: Tracing | None = None,
    ) -> None:
        self.settings = settings
        self.tracing = tracing or NoTracing()
        self.policy = policy
        self.metrics = Metrics()
        self.audit = (
            None if settings.audit is None else AuditLog(settings.audit, self.metrics.audit)
        )
        admit_policy(policy, self.audit)
        self.checker = Checker(
            classifier,
            batch_s=settings.limits.batch_s,
            observer=self.metrics.check,
            shadow_observer=self.metrics.shadow,
        )
        self.admission = Admission(self.checker, settings.limits)
        self.own = Own(self)
        self._no_rules = self.metrics.bypasses.labels("no_rules")
        self._no_path = self.metrics.bypasses.labels("path")
        self.upstream = (
            Upstream(settings, self.tracing.travel)
            if settings.models is None
            else LiteLLMUpstream(settings, settings.models)
        )
        self.reloader = Reloader(self, settings.reload_s)
        self.keys = None
        if settings.keys is not None:
            self.keys = KeyRing(
                settings.keys, self.checker, self.metrics, self.audit, settings.reload_s
            )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request that is not for the proxy itself."""
        route = route_of(request.method, request.rel_url.raw_path, body=request.body_exists)
        if request.method == "POST" and route.endpoint == "moderations":
            return await self.own.moderate(request, route)
        if request.method == "POST" and request.path == LITELLM_PATH:
            return await self.own.ask(request, route)
        if route.wire is None or not route.guarded:
            return await self._pass_through(request)
        # One policy from here to the end, whatever is loaded meanwhile.
        policy = request.get(POLICY, self.policy)
        if not any(judges(p) for p in (policy, *(s.policy for s in policy.selections))):
            return await self._unchecked(request, route.path, self._no_rules)
        request_id = uuid.uuid4().hex
        accepts = request.headers.get("Accept-Language", "")
        notices = Notices(policy, request_id, self.settings, accepts)
        exchange = Exchange(request_id, policy, route, route.wire, notices, time.monotonic())
        with self.tracing.request(request.method, f"/v1/{route.endpoint}", request.headers) as note:
            response = await self._guarded(exchange, request, route)
            note.set(http__response__status_code=response.status, guardrail__result=exchange.ended)
            return response

    async def _guarded(
        self, exchange: Exchange, request: web.Request, route: Route
    ) -> web.StreamResponse:
        """Carry out an exchange and turn whatever goes wrong into an answer."""
        try:
            with self.admission.enter(exchange.policy):
                return await self._exchange(exchange, request, route)
        except Overload as overload:
            return await self._shed(exchange, request, route, overload)
        except WireError as error:
            exchange.fault(self.metrics, "invalid", error)
            return self._error(exchange, status_of(error), str(error), param=error.param)
        except UpstreamError as error:
            self._broke(exchange, error)
            return self._error(exchange, error.status, error.message)
        except asyncio.CancelledError:
            exchange.left()
            raise
        except ConnectionResetError:
            exchange.left()
            return gone(request)
        except Exception as error:  # the last resort: no traceback to the client
            exchange.fault(self.metrics, "fault", error)
            log.exception("request %s failed", exchange.id)
            return self._error(exchange, 500, "The guardrail failed on this request.")
        finally:
            exchange.account(self.metrics)

    async def _shed(
        self, exchange: Exchange, client: web.Request, route: Route, overload: Overload
    ) -> web.StreamResponse:
        """Turn a request away, or forward it unchecked where the policy fails open."""
        # Once bytes of the body were taken in, it can no longer be forwarded as it comes.
        closed = overload.reason == "memory" or fails_closed(exchange.policy)
        self.metrics.shed.labels(overload.reason, "refused" if closed else "passed").inc()
        exchange.ended = "shed"
        if (trail := self.trail(_origin(exchange, client, route), exchange.policy)) is not None:
            trail.failed("overload")
        if not closed:
            return await self._unchecked(client, route.path, self.metrics.bypasses.labels("shed"))
        response = self._error(exchange, 503, str(overload))
        response.headers["Retry-After"] = str(overload.retry_s)
        return response

    async def _exchange(
        self, exchange: Exchange, client: web.Request, route: Route
    ) -> web.StreamResponse:
        with self.admission.memory() as budget:
            body = await self._read(client, budget.take)
            request = exchange.request = await _read_request(route, body)
            return await self._checked(exchange, client, route, request)

    async def _checked(
        self, exchange: Exchange, client: web.Request, route: Route, request: WireRequest
    ) -> web.StreamResponse:
        """Check a request that was read, ask the upstream, and relay its answer."""
        policy = exchange.policy = chosen(exchange.policy, client, route.path, request.model)
        accepts = client.headers.get("Accept-Language", "")
        exchange.notices = Notices(policy, exchange.id, self.settings, accepts)
        if not judges(policy):
            self._no_rules.inc()
            broke = partial(self._broke, exchange)
            return await self._forward(client, route.path, request.raw, broke)
        exchange.trail = self.trail(_origin(exchange, client, route), policy)
        before = policy.input_check is InputCheck.BEFORE
        async with AsyncExitStack() as stack:
            check = asyncio.ensure_future(self._judge(exchange, request))
            stack.callback(check.cancel)
            if before and (refusal := await self._refusal(exchange, check)) is not None:
                return refusal
            clean, exchange.redacted = await redacted(policy, route.read, request)
            self.metrics.redacted(Direction.INPUT, exchange.redacted)
            if clean is None:
                verdict = unredactable(policy, Direction.INPUT)
                if exchange.trail is not None:
                    exchange.trail.refused(verdict)
                return self._refuse(exchange, verdict)
            url = self.upstream.url(route.path, client.rel_url.raw_query_string)
            sent = clean.raw if client.body_exists else None
            model = self.tracing.model(exchange.wire.name, request.model, url.host or "")
            note = stack.enter_context(model)
            answer = await stack.enter_async_context(
                self.upstream.open(client.method, url, _headers(client), sent, decode=True)
            )
            if not before and (refusal := await self._refusal(exchange, check)) is not None:
                return refusal
            response = await self._answer(exchange, client, request, answer)
            exchange.note_answer(note, answer.status)
            return response

    def trail(self, origin: Origin, policy: Policy) -> Trail | None:
        """Return what records the decisions of one request, where there is an audit."""
        return None if self.audit is None else self.audit.trail(origin, policy)

    async def _judge(self, exchange: Exchange, request: WireRequest) -> Verdict:
        """Judge a request."""
        policy = exchange.policy
        if exchange.trail is not None and request.skipped:
            exchange.trail.skipped([f"{part}: cannot be read" for part in request.skipped])
        return await self.checker.check_input(
            policy, request.segments, opaque=request.opaque, watch=exchange.trail
        )

    async def _refusal(
        self, exchange: Exchange, check: asyncio.Future[Verdict]
    ) -> web.Response | None:
        """Wait for the verdict on the input; return the refusal if it blocks."""
        started = time.monotonic()
        with self.tracing.check() as note:
            verdict = exchange.input = await check
            note.verdict(verdict)
        exchange.input_s = time.monotonic() - started
        return self._refuse(exchange, verdict) if verdict.blocked else None

    def _refuse(self, exchange: Exchange, verdict: Verdict) -> web.Response:
        exchange.input = verdict
        exchange.ended = "blocked_input"
        reply = exchange.route.refusal(exchange.request, exchange.notices.notice(verdict))
        return respond(reply, exchange.notices.headers(verdict))

    async def _answer(
        self,
        exchange: Exchange,
        client: web.Request,
        request: WireRequest,
        upstream: UpstreamAnswer,
    ) -> web.StreamResponse:
        headers = forwardable(upstream.headers, drop=("content-length", "content-encoding"))
        headers.update(exchange.notices.headers(exchange.input))
        headers.update(header_of(exchange.redacted))
        if upstream.status in _REDIRECTS:  # it would lead the client past the guardrail
            raise UpstreamError("redirect", 502, "The model API answered with a redirect.")
        if not 200 <= upstream.status < 300:
            exchange.ended = f"upstream_{upstream.status}"
        if not exchange.policy.applies(Direction.OUTPUT):
            return await copy(client, upstream, headers, partial(self._broke, exchange))
        answer = Answer(
            self.checker,
            exchange.policy,
            exchange.wire,
            request,
            exchange.notices,
            self.settings,
            exchange.trail,
        )
        with self.metrics.open_streams.track_inprogress():
            relayed = await answer.relay(client, upstream, headers)
        exchange.result, exchange.first_held_s = relayed.result, relayed.first_held_s
        return relayed.response

    async def _read(self, client: web.Request, take: Callable[[int], None]) -> bytes:
        settings = self.settings
        return await read_body(client, settings.max_request_bytes, settings.read_timeout_s, take)

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
            with self.admission.memory() as budget:
                body = await self._passing(client, budget.take)
                return await self._forward(client, path, body, self._failed)
        except ConnectionResetError:
            return gone(client)
        except Overload as overload:
            reply = WIRES["openai.chat"].error(503, str(overload), type="api_error")
            return respond(reply, {"Retry-After": str(overload.retry_s)})
        except WireError as error:
            reply = WIRES["openai.chat"].error(
                status_of(error), str(error), type="invalid_request_error"
            )
            return respond(reply, {})
        except UpstreamError as error:
            self._failed(error)
            reply = WIRES["openai.chat"].error(
                error.status, error.message, type="upstream_error", code="upstream_error"
            )
            return respond(reply, {})

    async def _passing(
        self, client: web.Request, take: Callable[[int], None]
    ) -> bytes | AsyncIterator[bytes] | None:
        """Return a body that nothing is judged of; LiteLLM takes it whole, so it counts."""
        if not isinstance(self.upstream, LiteLLMUpstream):
            return await passing_body(client, self.settings.read_timeout_s)
        return await self._read(client, take) if client.body_exists else None

    async def _forward(
        self,
        client: web.Request,
        path: str,
        body: bytes | AsyncIterator[bytes] | None,
        broke: Callable[[UpstreamError], None],
    ) -> web.StreamResponse:
        url = self.upstream.url(path, client.rel_url.raw_query_string)
        opened = self.upstream.open(client.method, url, _headers(client), body, decode=False)
        async with opened as upstream:
            return await copy(client, upstream, forwardable(upstream.headers), broke)

    def _failed(self, error: UpstreamError) -> None:
        """Count a failure of the model API."""
        self.metrics.upstream_errors.labels(error.kind).inc()

    def _broke(self, exchange: Exchange, error: UpstreamError) -> None:
        """Take note that the model API failed on an exchange."""
        exchange.fault(self.metrics, f"upstream_{error.kind}", error)
        self._failed(error)

    def _error(
        self, exchange: Exchange, status: int, message: str, param: str | None = None
    ) -> web.Response:
        kind = "invalid_request_error" if status < 500 else "api_error"
        reply = exchange.wire.error(status, message, type=kind, param=param)
        return respond(reply, exchange.notices.headers(exchange.input))


def _origin(exchange: Exchange, client: web.Request, route: Route) -> Origin:
    """Return what the audit says of where a request came in."""
    model = exchange.request.model if exchange.request else None
    key = client.get(CLIENT, "")
    return Origin(exchange.id, "proxy", route.path, exchange.wire.name, model or "", key)


async def _read_request(route: Route, body: bytes) -> WireRequest:
    if len(body) < LARGE_BYTES:
        return route.read(body)
    return await asyncio.to_thread(route.read, body)


def _headers(client: web.Request) -> Mapping[str, str]:
    """Return the headers to send on: not those that held the proxy's own key."""
    kept: Mapping[str, str] = client.get(HEADERS, client.headers)
    return kept
