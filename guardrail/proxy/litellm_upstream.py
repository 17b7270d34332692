"""Every provider that LiteLLM knows as one upstream with OpenAI-style endpoints.

It stands where `Upstream` stands and yields answers of the same shape, so that requests and
answers take the same way through the checks as any others.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, get_args, get_type_hints

from multidict import CIMultiDict
from yarl import URL

from guardrail.errors import SettingsError
from guardrail.proxy.litellm_stream import dump, end, events_of, fault
from guardrail.proxy.models import Models
from guardrail.proxy.settings import Settings
from guardrail.proxy.upstream import UpstreamAnswer
from guardrail.wire import WIRES, wire_for

__all__ = ["LiteLLMUpstream"]

JSON: Final = "application/json"
SSE: Final = "text/event-stream"
MAX_MESSAGE_CHARS: Final = 1000

_METHODS: Final = {
    "chat/completions": "acompletion",
    "completions": "atext_completion",
    "embeddings": "aembedding",
    "responses": "aresponses",
    "messages": "aanthropic_messages",
}
"""For each endpoint the method of LiteLLM's router."""

_OPENAI_TYPES: Final = {
    "chat/completions": ("chat.completion_create_params", "CompletionCreateParams"),
    "completions": ("completion_create_params", "CompletionCreateParams"),
    "embeddings": ("embedding_create_params", "EmbeddingCreateParams"),
    "responses": ("responses.response_create_params", "ResponseCreateParams"),
}
"""Where the OpenAI SDK, which LiteLLM brings along, lists the parameters of an endpoint."""

_ANTHROPIC: Final = frozenset(
    {
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "service_tier",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
"""Parameters of Anthropic's messages (its API reference), but for those that name servers."""

_NOT_SENT: Final = frozenset({"metadata"})
"""Taken from clients but kept from LiteLLM, which would steer its routing by it."""

_CLIENT_FAULTS: Final = frozenset({400, 404, 413, 422, 429})
"""Statuses of a provider that tell of the client's request, not of the operator's account."""


@dataclass(frozen=True, slots=True)
class _Body:
    """The body of an answer, piece by piece."""

    pieces: AsyncIterator[bytes]

    def iter_any(self) -> AsyncIterator[bytes]:
        return self.pieces


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer in the shape of an HTTP client's."""

    status: int
    content: _Body
    content_type: str

    @property
    def ok(self) -> bool:
        return self.status < 400

    @property
    def headers(self) -> CIMultiDict[str]:
        return CIMultiDict({"Content-Type": self.content_type})


class LiteLLMUpstream:
    """A client of all the models in a models file.

    Args:
        settings: For the time-out.
        models: The aliases.

    Raises:
        SettingsError: LiteLLM is not installed, or refuses a model.
    """

    def __init__(self, settings: Settings, models: Models) -> None:
        self._models = models
        self._closing: set[asyncio.Task[None]] = set()
        self._router = _router(models, settings.read_timeout_s)

    async def start(self) -> None:
        """Do nothing: LiteLLM opens its connections as it needs them."""

    async def close(self) -> None:
        """Close the connections."""
        import litellm

        await asyncio.gather(*self._closing, return_exceptions=True)
        await litellm.close_litellm_async_clients()

    def url(self, path: str, query: str) -> URL:
        """Return the path itself; there is no one address behind it.

        Args:
            path: Raw path of the request.
            query: Left out: no endpoint here takes one.
        """
        del query
        return URL(path, encoded=True)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: Any,
        *,
        decode: bool,
    ) -> AsyncIterator[UpstreamAnswer]:
        """Send a request to the model that it names and wait for the head of the answer.

        Args:
            method: HTTP method.
            url: From `url`.
            headers: Left out: keys and addresses are the settings' own.
            body: Bytes, or None.
            decode: Left out: nothing is compressed.

        Yields:
            The answer; on leaving the provider's stream is closed.

        Raises:
            UpstreamError: No provider answered.
        """
        del headers, decode
        path = url.raw_path.strip("/").removeprefix("v1/")
        if method == "GET" and path == "models":
            yield _whole(200, self._list())
            return
        try:
            request = self._read(method, path, body or b"")
            answer = await self._ask(path, request)
        except _RequestError as refused:
            yield refused.answer
            return
        if not request.get("stream"):
            yield _whole(200, dump(answer))
            return
        events = events_of(path, answer)
        try:
            yield _Answer(200, _Body(events), SSE)
        finally:
            await end(events, answer, self._closing)

    def _list(self) -> bytes:
        models = [
            {"id": alias, "object": "model", "created": 0, "owned_by": "guardrail"}
            for alias in self._models.deployments
        ]
        return json.dumps({"object": "list", "data": models}).encode()

    def _read(self, method: str, path: str, data: bytes) -> dict[str, Any]:
        """Return the arguments of the call."""
        if method != "POST" or path not in _METHODS:
            known = ", ".join(f"/v1/{name}" for name in ["models", *_METHODS])
            raise _RequestError(
                path, 404, f"{method} /{path[:80]} is not served; there is {known}."
            )
        try:
            request = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise _RequestError(path, 400, "The request body is not JSON.") from error
        if not isinstance(request, dict):
            raise _RequestError(path, 400, "The request body is not a JSON object.")
        alias = request.get("model")
        if not isinstance(alias, str) or alias not in self._models.deployments:
            known = ", ".join(self._models.deployments)
            message = f"The model {str(alias)[:80]!r} does not exist; there is {known}."
            raise _RequestError(path, 404, message, "model_not_found")
        # LiteLLM takes addresses, keys and canned answers as arguments: only the API's own pass.
        if unknown := sorted(set(request) - _parameters(path)):
            raise _RequestError(path, 400, f"Unrecognized request argument: {unknown[0][:80]}")
        return {key: value for key, value in request.items() if key not in _NOT_SENT}

    async def _ask(self, path: str, request: dict[str, Any]) -> Any:
        try:
            return await getattr(self._router, _METHODS[path])(**request)
        except Exception as error:  # each provider's own kinds come through
            raise _explain(path, error) from error


class _RequestError(Exception):
    """A request that gets an error for an answer.

    Args:
        path: The endpoint, whose dialect the error is in.
        status: HTTP status.
        message: What is wrong.
        code: OpenAI's word for it, if it has one.
    """

    def __init__(self, path: str, status: int, message: str, code: str | None = None) -> None:
        wire = wire_for(f"/v1/{path}") or WIRES["openai.chat"]
        reply = wire.error(status, message, type="invalid_request_error", code=code)
        self.answer = _whole(reply.status, reply.body)
        super().__init__(message)


def _router(models: Models, timeout_s: float) -> Any:
    # Set before the import: LiteLLM would fetch a list of prices, which nothing here needs.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError as error:
        raise SettingsError(
            "--upstream litellm needs LiteLLM; run: pip install 'guardrail[litellm]'"
        ) from error
    litellm.suppress_debug_info = True  # it prints to the terminal otherwise
    listed = [
        {"model_name": alias, "litellm_params": dict(one)}
        for alias, several in models.deployments.items()
        for one in several
    ]
    try:
        return litellm.Router(
            model_list=listed,
            num_retries=models.retries,
            timeout=timeout_s,
            stream_timeout=timeout_s,
        )
    except Exception as error:
        # Its messages may hold the parameters, keys among them: only the kind is told.
        raise SettingsError(
            f"--models: LiteLLM refuses a model ({type(error).__name__}); "
            "check each 'model: provider/name' against LiteLLM's list of providers"
        ) from error


@lru_cache(maxsize=len(_METHODS))
def _parameters(path: str) -> frozenset[str]:
    """Return the names of an endpoint's parameters."""
    if path not in _OPENAI_TYPES:
        return _ANTHROPIC
    module, name = _OPENAI_TYPES[path]
    kinds = getattr(importlib.import_module(f"openai.types.{module}"), name)
    return frozenset({"stream"}.union(*(get_type_hints(k) for k in get_args(kinds) or (kinds,))))


async def _one(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _whole(status: int, body: bytes) -> _Answer:
    return _Answer(status, _Body(_one(body)), JSON)


def _explain(path: str, error: Exception) -> Exception:
    """Tell the client of its own fault in the provider's words; keep others to ourselves."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and status in _CLIENT_FAULTS:
        code = "rate_limit_exceeded" if status == 429 else None
        words = str(getattr(error, "message", error))[:MAX_MESSAGE_CHARS]
        return _RequestError(path, status, words, code)
    return fault(error)
