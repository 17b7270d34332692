"""Guarded clients: `guard_client` around the official OpenAI and Anthropic packages."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, TypeVar

from guardrail.policy import Policy
from guardrail.sdk.api import Guardrail
from guardrail.sdk.exchange import ERROR
from guardrail.sdk.scope import Options
from guardrail.sdk.transport import guarded_http
from guardrail.types import Verdict

__all__ = ["guard_client"]

C = TypeVar("C")


def guard_client(
    client: C,
    *,
    policy: str | Path | Policy | Guardrail = "default",
    on_block: Literal["raise", "message"] = "raise",
    on_flag: Callable[[Verdict], object] | None = None,
) -> C:
    """Return a client of the same type whose calls are guarded, streams included.

    Guarded are chat completions, completions, responses, embeddings and messages, through
    whatever method (``create``, ``parse``, ``stream``, ``with_raw_response``, copies by
    ``with_options``), and what the API keeps of them: answers that are fetched later, cancelled
    or compacted, and conversations, whose items are judged as they are put in and listed. Not
    guarded are batches, files, assistants, token counts of Anthropic's, and sessions over
    WebSockets.

    Args:
        client: An ``OpenAI``, ``AsyncOpenAI``, ``Anthropic`` or ``AsyncAnthropic`` client, or
            one derived from these. It stays as it is; both share one connection pool.
        policy: A policy file, the name of a bundled policy, a `Policy`, or a `Guardrail`.
        on_block: ``raise`` for `GuardrailBlocked`; ``message`` for an answer in the API's own
            shape with the policy's text.
        on_flag: Called with verdicts that flag.

    Raises:
        TypeError: The client is of another package.
        PolicyError: The policy does not validate.
    """
    if on_block not in ("raise", "message"):
        raise TypeError(f"on_block: {on_block!r}; use 'raise' or 'message'")
    _require_known(client)
    guardrail = policy if isinstance(policy, Guardrail) else Guardrail.load(policy)
    options = Options(guardrail, None, on_block, on_flag)
    sdk: Any = client
    inner = sdk._client  # noqa: SLF001  (the HTTP client has no public name)
    guarded = sdk.with_options(http_client=guarded_http(inner, options, _http_of(inner)))
    kind: Any = type(sdk)
    guarded.__class__ = _blocking(kind)
    result: C = guarded
    return result


_GUARDED: Final = {
    "OpenAI": "openai",
    "AsyncOpenAI": "openai",
    "Anthropic": "anthropic",
    "AsyncAnthropic": "anthropic",
}
"""Classes whose paths we know, by package; those for Bedrock and Vertex have paths of their own,
and would pass unseen."""


def _require_known(client: object) -> None:
    kinds = ((kind.__name__, kind.__module__.partition(".")[0]) for kind in type(client).__mro__)
    if any(_GUARDED.get(name) == package for name, package in kinds):
        return
    raise TypeError(
        f"guard_client: {type(client).__name__} is not an OpenAI or Anthropic client of the "
        "official packages; guard the function that calls it with @guard"
    )


def _http_of(inner: object) -> ModuleType:
    """Return the HTTP library of a client: httpx or httpx2."""
    for kind in type(inner).__mro__:
        package = kind.__module__.partition(".")[0]
        if package.startswith("httpx") and kind.__name__ in ("Client", "AsyncClient"):
            return sys.modules[package]
    raise TypeError(f"guard_client: {type(inner).__name__} is not an httpx client")


@functools.cache
def _blocking(kind: Any) -> type[Any]:
    """Return a client class that raises our errors for the responses that stand for them."""
    make = kind._make_status_error  # noqa: SLF001  (there is no public hook)

    def make_status_error(self: Any, message: str, *, body: object, response: Any) -> Exception:
        error: Exception | None = response.extensions.get(ERROR)
        made: Exception = error or make(self, message, body=body, response=response)
        return made

    return type(kind.__name__, (kind,), {"_make_status_error": make_status_error})
