"""What spans promise: GenAI conventions, the client's trace kept, no text, a real receiver."""

from __future__ import annotations

import asyncio
import gzip
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from aiohttp import web

from guardrail.proxy import server
from guardrail.proxy.tracing import OPERATIONS, NoTracing, OtelTracing, open_tracing
from guardrail.wire import WIRES
from tests.proxy.conftest import completion, stream_of

trace_sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra 'otel'")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch) -> Iterator[object]:
    """Send the proxy's spans to memory."""
    exporter = memory.InMemorySpanExporter()
    provider = trace_sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    monkeypatch.setattr(server, "open_tracing", lambda: OtelTracing(provider))
    return exporter


def test_every_dialect_has_a_name_for_its_operation() -> None:
    assert set(OPERATIONS) == set(WIRES)


async def test_a_request_is_three_spans_by_the_conventions(start, spans) -> None:
    bench = await start()
    bench.upstream.streams(stream_of("all ", "is ", "well"))
    async with bench.chat("PLEASE", stream=True, model="gpt-x") as answer:
        await answer.read()
    by_name = {span.name: span for span in spans.get_finished_spans()}
    request = by_name["POST /v1/chat/completions"]
    model, check = by_name["chat gpt-x"], by_name["guardrail.check input"]
    assert (request.kind.name, model.kind.name, check.kind.name) == ("SERVER", "CLIENT", "INTERNAL")
    assert model.parent.span_id == check.parent.span_id == request.context.span_id
    assert model.attributes["gen_ai.operation.name"] == "chat"
    assert model.attributes["gen_ai.provider.name"] == "openai"
    assert model.attributes["gen_ai.request.model"] == "gpt-x"
    assert model.attributes["server.address"] == "127.0.0.1"
    assert check.attributes["guardrail.action"] == "pass"
    assert request.attributes["http.response.status_code"] == 200


async def test_a_client_cannot_fill_spans_by_the_name_of_a_model(start, spans) -> None:
    bench = await start()
    bench.upstream.answers(completion("fine"))
    async with bench.chat(model="m" * 100_000) as answer:
        assert answer.status == 200
    [model] = [s for s in spans.get_finished_spans() if s.kind.name == "CLIENT"]
    assert len(model.name) < 300
    assert len(model.attributes["gen_ai.request.model"]) == 200


async def test_the_client_s_trace_goes_on_through_to_the_upstream(start, spans) -> None:
    bench = await start()
    bench.upstream.answers(completion("fine"))
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    async with bench.client.post(
        f"{bench.url}/v1/chat/completions", json=body, headers={"traceparent": PARENT}
    ) as answer:
        await answer.read()
    (model,) = [s for s in spans.get_finished_spans() if s.name == "chat m"]
    assert f"{model.context.trace_id:032x}" == PARENT.split("-")[1]
    sent = bench.upstream.requests[0][2]["traceparent"]
    assert sent.split("-")[1] == PARENT.split("-")[1]
    assert sent.split("-")[2] == f"{model.context.span_id:016x}"


async def test_a_block_and_an_error_are_on_their_spans_without_any_text(start, spans) -> None:
    bench = await start()
    bench.upstream.answers(completion("this is BAD"))
    async with bench.chat("SECRET") as answer:
        await answer.read()
    async with bench.chat("SECRET BAD") as answer:
        assert answer.status == 400
    bench.upstream.answers({"error": {"message": "SECRET"}}, status=429)
    async with bench.chat("SECRET") as answer:
        assert answer.status == 429
    models = [s for s in spans.get_finished_spans() if s.name == "chat m"]
    assert models[0].attributes["guardrail.action"] == "block"
    assert models[0].attributes["guardrail.categories"]
    assert models[1].attributes["error.type"] == "429"
    told = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "SECRET" not in told
    assert "blocked_input" in told


async def test_spans_arrive_at_a_real_otlp_receiver(start, monkeypatch) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    got = ExportTraceServiceRequest()

    async def receive(request: web.Request) -> web.Response:
        data = await request.read()
        got.MergeFromString(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{site.port}")
    bench = await start()
    bench.upstream.answers(completion("fine"))
    async with bench.chat() as answer:
        await answer.read()
    await asyncio.to_thread(bench.proxy.tracing.close)
    bench.proxy.tracing.close = lambda: None
    await runner.cleanup()
    names = {
        span.name
        for resource in got.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert names == {"POST /v1/chat/completions", "guardrail.check input", "chat m"}
    attributes = {a.key: a.value.string_value for a in got.resource_spans[0].resource.attributes}
    assert attributes["service.name"] == "guardrail"


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_sent_unless_the_environment_asks_for_it(env) -> None:
    assert isinstance(open_tracing(env), NoTracing)


def test_a_missing_package_is_an_error_with_the_line_that_installs_it() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from guardrail.errors import SettingsError\n"
        "from guardrail.proxy.tracing import open_tracing\n"
        "try:\n    open_tracing({'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://x'})\n"
        "except SettingsError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert "pip install 'guardrail[otel]'" in done.stdout
