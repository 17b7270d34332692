"""What clients are told of verdicts: words, headers and events, in their own language."""

from __future__ import annotations

import time
from typing import Final

from guardrail.policy import Policy
from guardrail.proxy.settings import Announce, Settings
from guardrail.types import Verdict
from guardrail.wire import Notice, WireStream

__all__ = ["Notices", "languages"]

UNREAD: Final = "Token numbers and embeddings cannot be checked; send text."


def languages(accepts: str) -> tuple[str, ...]:
    """Return the languages of an Accept-Language header (RFC 9110, 12.5.4), the best first."""
    found = []
    for part in accepts[:1000].split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            found.append((-float(weight or 1), tag.strip().lower()))
        except ValueError:
            continue
    return tuple(tag for weight, tag in sorted(found, key=lambda f: f[0]) if tag and weight < 0)


class Notices:
    """Words and headers for the verdicts of one exchange.

    Args:
        policy: The policy in force.
        request_id: Identity of the exchange.
        settings: How a block and a flag are told.
        accepts: The client's Accept-Language: a policy may have its messages in several.
    """

    def __init__(
        self, policy: Policy, request_id: str, settings: Settings, accepts: str = ""
    ) -> None:
        self._languages = languages(accepts)
        self._policy = policy
        self._request_id = request_id
        self._settings = settings

    def notice(self, verdict: Verdict) -> Notice:
        """Return what the client is told about a block."""
        unread = all(finding.reason == "unreadable" for finding in verdict.findings)
        message = self._policy.message_for(verdict.categories, self._languages)
        return Notice(
            message=UNREAD if unread else message,
            categories=verdict.categories,
            request_id=self._request_id,
            style=self._settings.refusal,
            created=int(time.time()),
        )

    def headers(self, verdict: Verdict | None) -> dict[str, str]:
        """Return the x-guardrail headers for a verdict."""
        headers = {
            "x-guardrail-request-id": self._request_id,
            "x-guardrail-policy": self._policy.identity,
            "x-guardrail-action": verdict.effective.value if verdict else "pass",
        }
        if verdict is not None and verdict.categories:
            headers["x-guardrail-categories"] = ",".join(verdict.categories)
        return headers

    def tell(self, stream: WireStream, verdict: Verdict) -> bytes:
        """Return the bytes that tell of a verdict within a stream, as the operator set it."""
        summary = {
            "action": verdict.effective.value,
            "categories": list(verdict.categories),
            "policy": self._policy.identity,
            "request_id": self._request_id,
        }
        if self._settings.announce is Announce.COMMENT:
            return stream.extra("guardrail", summary)
        if self._settings.announce is Announce.EVENT:
            return stream.event("guardrail", summary)
        return b""
