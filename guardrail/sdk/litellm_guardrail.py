"""A guardrail for the LiteLLM proxy, by its ``guardrails:`` configuration.

    guardrails:
      - guardrail_name: guardrail
        litellm_params:
          guardrail: guardrail.sdk.litellm_guardrail.LiteLLMGuardrail
          mode: [pre_call, post_call]
          default_on: true
          policy: default

Needs the extra ``litellm``. Input, whole output and streamed output are judged in the LiteLLM
process; a stream is held as by the proxy, so nothing leaves before its verdict.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from guardrail.classifier import Classifier
from guardrail.errors import GuardrailBlocked, WireError
from guardrail.policy import Policy
from guardrail.redact import Redactor, unredactable
from guardrail.sdk.adapters import dump_plain, request_body
from guardrail.sdk.api import Guardrail
from guardrail.sdk.scope import Options, Scope
from guardrail.types import Direction, Verdict
from guardrail.wire import WIRES, WireRequest
from guardrail.wire.rewrite import redact_request

try:
    from fastapi import HTTPException
    from litellm.exceptions import GuardrailRaisedException
    from litellm.integrations.custom_guardrail import CustomGuardrail
except ImportError as error:
    raise ImportError("the LiteLLM guardrail needs: pip install 'guardrail[litellm]'") from error

__all__ = ["LiteLLMGuardrail"]

_FIELDS: Final = {
    "openai.chat": ("messages", "tools", "functions", "response_format", "prediction"),
    "openai.completions": ("prompt", "suffix"),
    "openai.responses": ("input", "instructions", "tools", "prompt", "text"),
    "openai.embeddings": ("input",),
    "anthropic.messages": ("messages", "system", "tools", "output_config"),
}
"""Fields of a request that carry text; LiteLLM adds many of its own beside them."""

_DIALECTS: Final = {
    "completion": "openai.chat",
    "acompletion": "openai.chat",
    "text_completion": "openai.completions",
    "atext_completion": "openai.completions",
    "responses": "openai.responses",
    "aresponses": "openai.responses",
    "embedding": "openai.embeddings",
    "embeddings": "openai.embeddings",
    "aembedding": "openai.embeddings",
    "anthropic_messages": "anthropic.messages",
}
"""Dialects by LiteLLM's call types; others go by the fields that are there."""

_WITHOUT_TEXT: Final = frozenset(
    {"EmbeddingResponse", "ImageResponse", "RerankResponse", "HttpxBinaryResponseContent"}
)


class LiteLLMGuardrail(CustomGuardrail):
    """Judges what passes through a LiteLLM proxy.

    Args:
        policy: A policy file, the name of a bundled policy, or a `Policy`.
        on_block: ``raise`` for a 400 (in a stream, an error event); ``message`` for an answer
            with the policy's text.
        classifier: What scores texts, in place of the embedded model.
        kwargs: LiteLLM's own: ``guardrail_name``, ``event_hook``, ``default_on`` …
    """

    def __init__(
        self,
        policy: str | Path | Policy = "default",
        on_block: Literal["raise", "message"] = "raise",
        classifier: Classifier | None = None,
        **kwargs: Any,
    ) -> None:
        guardrail = Guardrail.load(policy, classifier=classifier)
        self._options = Options(guardrail, None, on_block, None)
        super().__init__(**kwargs)

    async def async_pre_call_hook(
        self,
        user_api_key_dict: Any,  # noqa: ARG002  (LiteLLM's signature, here and below)
        cache: Any,  # noqa: ARG002
        data: dict[str, Any],
        call_type: str,
    ) -> dict[str, Any] | str | None:
        """Judge a request before it is sent.

        Args:
            user_api_key_dict: Who asks.
            cache: LiteLLM's cache.
            data: The request.
            call_type: Which API.

        Returns:
            None to go on, or the policy's message as the answer.

        Raises:
            HTTPException: It is blocked.
        """
        request = await self._check_input(data, call_type)
        return None if request is None else self._redacted(data, request, call_type)

    def _redacted(
        self, data: dict[str, Any], request: WireRequest, call_type: str
    ) -> dict[str, Any] | None:
        """Return the request with its texts redacted, or None where it may go as it is."""
        policy = self._options.guardrail.policy
        redactor = Redactor.of(policy, Direction.INPUT)
        name = _name(data, call_type)
        if redactor is None or name is None:
            return None
        made = redact_request(request, WIRES[name].read_request, redactor.text)
        if made is None:
            raise self._refusal(unredactable(policy, Direction.INPUT))
        if made is request:
            return None
        return {**data, **{key: made.payload[key] for key in _FIELDS[name] if key in made.payload}}

    async def async_moderation_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,  # noqa: ARG002
        call_type: str,
    ) -> None:
        """Judge a request while it is being answered (mode ``during_call``).

        What should be redacted is refused: the request is under way.
        """
        request = await self._check_input(data, call_type)
        if request is not None and self._redacted(data, request, call_type) is not None:
            raise self._refusal(unredactable(self._options.guardrail.policy, Direction.INPUT))

    async def _check_input(self, data: dict[str, Any], call_type: str) -> WireRequest | None:
        try:
            request = _read(data, call_type)
        except (WireError, TypeError) as error:
            raise HTTPException(status_code=400, detail={"error": str(error)}) from error
        if request is None:
            return None
        guardrail = self._options.guardrail
        verdict = await guardrail.acheck_segments(
            request.segments, Direction.INPUT, opaque=request.opaque
        )
        if verdict.blocked:
            raise self._refusal(verdict)
        return request

    async def async_post_call_success_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,  # noqa: ARG002
        response: Any,
    ) -> Any:
        """Judge a whole answer.

        Args:
            data: The request.
            user_api_key_dict: Who asks.
            response: The answer.

        Returns:
            The answer, or one with the policy's message in its place.

        Raises:
            HTTPException: It is blocked.
        """
        if type(response).__name__ in _WITHOUT_TEXT:
            return response
        scope = self._scope(data)
        try:
            return await scope.aoutput(response)
        except GuardrailBlocked as blocked:
            raise self._refusal(blocked.verdict) from blocked
        except TypeError as error:  # an answer of no known kind may carry text
            verdict = self._options.guardrail.unreadable()
            if verdict.blocked:
                raise self._refusal(verdict) from error
            return response

    async def async_post_call_streaming_iterator_hook(
        self,
        user_api_key_dict: Any,  # noqa: ARG002
        response: AsyncIterator[Any],
        request_data: dict[str, Any],
    ) -> AsyncGenerator[Any, None]:
        """Judge a streamed answer; chunks leave when they are cleared.

        Args:
            user_api_key_dict: Who asks.
            response: The chunks.
            request_data: The request.

        Yields:
            The chunks, in order.

        Raises:
            GuardrailRaisedException: It is blocked, and ``on_block`` is ``raise``.
        """
        scope = self._scope(request_data)
        try:
            async for chunk in scope.astream(response):
                yield chunk
        except GuardrailBlocked as blocked:
            # An HTTPException would break the connection: the answer's head is out.
            message = self._options.guardrail.message(blocked.verdict)
            error = GuardrailRaisedException(self.guardrail_name, message)
            error.message = message
            raise error from blocked

    def _scope(self, data: Mapping[str, Any]) -> Scope:
        try:
            request = _read(data, "")
        except (WireError, TypeError):
            request = None
        return Scope(self._options, request.prompt if request else None)

    def _refusal(self, verdict: Verdict) -> Exception:
        detail = {
            "error": self._options.guardrail.message(verdict),
            "guardrail": self.guardrail_name,
            "categories": list(verdict.categories),
            "policy": verdict.policy,
        }
        error: Exception = HTTPException(status_code=400, detail=detail)
        return error


def _read(data: Mapping[str, Any], call_type: str) -> WireRequest | None:
    """Read a request by its call type, or by its fields; None where it carries no text."""
    name = _name(data, call_type)
    if name is None:
        return None
    body = request_body(data, _FIELDS[name])
    return WIRES[name].read_request(dump_plain(body))


def _name(data: Mapping[str, Any], call_type: str) -> str | None:
    return _DIALECTS.get(str(getattr(call_type, "value", call_type))) or _by_fields(data)


def _by_fields(data: Mapping[str, Any]) -> str | None:
    if data.get("messages"):
        return "anthropic.messages" if data.get("system") else "openai.chat"
    if data.get("input"):
        return "openai.responses"
    return "openai.completions" if data.get("prompt") else None
