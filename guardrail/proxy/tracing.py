"""Spans of OpenTelemetry, by its conventions for generative AI; nothing where it is not set up.

One request makes up to three spans, none of which holds text, keys or headers:

    POST /v1/chat/completions      server    what the client asked of the proxy
    ├── guardrail.check input      internal  the checks of the request, with the verdict
    └── chat MODEL                 client    the model API, with the verdict on its answer

The SDK is configured by its own variables (``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_SERVICE_NAME``,
``OTEL_TRACES_SAMPLER`` …). Names of spans and attributes are those of the semantic conventions
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/); the ``guardrail.*`` are ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from multidict import CIMultiDict

from guardrail.errors import SettingsError
from guardrail.types import Action, Verdict

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

__all__ = ["NoTracing", "OtelTracing", "Tracing", "open_tracing"]

OPERATIONS: Final = MappingProxyType(
    {
        "openai.chat": "chat",
        "openai.completions": "text_completion",
        "openai.responses": "chat",
        "openai.conversations": "conversation",  # no model is asked: none of the known names fits
        "openai.embeddings": "embeddings",
        "anthropic.messages": "chat",
    }
)
"""``gen_ai.operation.name`` of each dialect."""


MAX_MODEL_CHARS: Final = 200
"""Most of the model's name that is told; the client writes it."""


class Tracing(Protocol):
    """What is told of one request after another."""

    def request(
        self, method: str, route: str, headers: Mapping[str, str], /
    ) -> AbstractContextManager[Note]:
        """Open the span of a request, below the client's where its headers name one."""
        ...

    def check(self) -> AbstractContextManager[Note]:
        """Open the span of the checks of a request's input."""
        ...

    def model(self, dialect: str, model: str | None, host: str, /) -> AbstractContextManager[Note]:
        """Open the span of the model API's answer."""
        ...

    def travel(self, headers: CIMultiDict[str], /) -> None:
        """Put the span that is open into headers for the upstream."""
        ...

    def close(self) -> None:
        """Send what waits."""
        ...


class Note:
    """What is noted on an open span; nothing at all where there is none.

    Args:
        span: The span.
    """

    __slots__ = ("_span",)

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    def verdict(self, verdict: Verdict | None) -> None:
        """Note what was decided: action, categories, policy; never text."""
        if self._span is None or verdict is None:
            return
        self._span.set_attribute("guardrail.action", verdict.effective.value)
        self._span.set_attribute("guardrail.outcome", verdict.outcome.value)
        self._span.set_attribute("guardrail.policy", verdict.policy)
        if verdict.action is not Action.PASS:
            self._span.set_attribute("guardrail.categories", list(verdict.categories))

    def set(self, **values: str | int | float | bool | None) -> None:
        """Note facts; ``__`` in a name stands for a dot."""
        if self._span is None:
            return
        for name, value in values.items():
            if value is not None:
                self._span.set_attribute(name.replace("__", "."), value)

    def failed(self, kind: str) -> None:
        """Note that it ended in an error of this class."""
        if self._span is None:
            return
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("error.type", kind)
        self._span.set_status(StatusCode.ERROR)


_NOTHING: Final = Note()


class NoTracing:
    """Tells nobody."""

    def request(self, *_: object) -> AbstractContextManager[Note]:
        """Do nothing."""
        return nullcontext(_NOTHING)

    check = model = request

    def travel(self, *_: object) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class OtelTracing:
    """Tells an OpenTelemetry provider.

    Args:
        provider: Where spans go; shut down by `close`.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("guardrail")
        self._context = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, method: str, route: str, headers: Mapping[str, str]) -> Iterator[Note]:
        """Open the span of a request, below the client's where its headers name one."""
        from opentelemetry.trace import SpanKind

        lower = {name.lower(): value for name, value in headers.items()}
        attributes = {"http.request.method": method, "http.route": route}
        with self._tracer.start_as_current_span(
            f"{method} {route}",
            context=self._context.extract(lower),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,  # its message may quote text
            set_status_on_exception=False,
        ) as span:
            yield Note(span)

    @contextmanager
    def check(self) -> Iterator[Note]:
        """Open the span of the checks of a request's input."""
        with self._tracer.start_as_current_span(
            "guardrail.check input", record_exception=False, set_status_on_exception=False
        ) as span:
            yield Note(span)

    @contextmanager
    def model(self, dialect: str, model: str | None, host: str) -> Iterator[Note]:
        """Open the span of the model API's answer."""
        from opentelemetry.trace import SpanKind

        operation, model = OPERATIONS[dialect], model and model[:MAX_MODEL_CHARS]
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": dialect.partition(".")[0],
            "server.address": host,
        }
        if model:
            attributes["gen_ai.request.model"] = model
        with self._tracer.start_as_current_span(
            f"{operation} {model}" if model else operation,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield Note(span)

    def travel(self, headers: CIMultiDict[str]) -> None:
        """Put the span that is open into headers for the upstream."""
        self._context.inject(headers)

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


def open_tracing(env: Mapping[str, str] = os.environ) -> Tracing:
    """Open what the environment asks for.

    Args:
        env: Variables of the process; spans are sent where one names an OTLP endpoint, unless
            ``OTEL_SDK_DISABLED`` is true or ``OTEL_TRACES_EXPORTER`` is ``none``.

    Returns:
        A tracing over OTLP/HTTP, or one that tells nobody.

    Raises:
        SettingsError: An endpoint is named, but the packages are not installed.
    """
    endpoint = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or env.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    off = env.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not endpoint or off or env.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return NoTracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT: spans need OpenTelemetry's packages: "
            "pip install 'guardrail[otel]', or unset it"
        ) from error
    name = {} if env.get("OTEL_SERVICE_NAME") else {"service.name": "guardrail"}
    provider = TracerProvider(resource=Resource.create(name))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OtelTracing(provider)
