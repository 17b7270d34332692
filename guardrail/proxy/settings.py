"""What the operator sets for one proxy process."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from yarl import URL

from guardrail.audit import AuditSettings
from guardrail.errors import SettingsError
from guardrail.proxy.limits import Limits
from guardrail.proxy.models import Models
from guardrail.wire.base import RefusalStyle

__all__ = ["LITELLM", "AdminSettings", "Announce", "Settings"]

LITELLM: Final = "litellm"
"""In place of an upstream's URL: every provider that LiteLLM knows."""


MIN_TOKEN_CHARS: Final = 16


class Announce(StrEnum):
    """How a streamed answer tells of a verdict."""

    COMMENT = "comment"
    EVENT = "event"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """Where the operator's side listens.

    Args:
        port: Port; 0 picks a free one.
        token: What every request must carry.
        host: Address; another than loopback should have TLS in front of it.

    Raises:
        SettingsError: The port or the token cannot be used.
    """

    port: int
    token: str = field(repr=False)
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise SettingsError(f"--admin-port: {self.port} is not between 0 and 65535")
        if len(self.token) < MIN_TOKEN_CHARS or not self.token.isascii():
            raise SettingsError(
                f"GUARDRAIL_ADMIN_TOKEN: use {MIN_TOKEN_CHARS} ASCII characters or more; without "
                "it a token is made at the start"
            )


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the proxy.

    Args:
        upstream: Base URL of the LLM API, with or without a path such as ``/v1``; or `LITELLM`.
        models: What `LITELLM` serves; None with a URL.
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        upstream_key: Sent upstream as ``Authorization: Bearer …`` (and ``x-api-key`` on the
            Anthropic dialect) in place of the client's own; never logged.
        refusal: How a request that is blocked on input is answered.
        announce: How a streamed answer tells of a verdict that flags or blocks.
        passthrough: Whether requests on paths that are not guarded reach the upstream.
        max_request_bytes: Largest request body, once decompressed.
        max_response_bytes: Largest answer that is held whole.
        connect_timeout_s: Longest wait for a connection to the upstream.
        read_timeout_s: Longest silence of the upstream.
        reload_s: Seconds between looks at the policy's files; 0 reloads only on SIGHUP.
        audit: Where decisions are recorded; None for no audit.
        admin: Where the operator's console listens; None for no console.
        allowed_upstreams: Hosts, with or without a port, of which the upstream must be one;
            empty for any. For images and units whose users set the upstream.
        keys: File with the keys of the proxy itself; None asks for none.
        limits: Bounds on sizes, times and numbers.

    Raises:
        SettingsError: A value that cannot be used, with the flag to change.
    """

    upstream: str
    host: str = "127.0.0.1"
    port: int = 8000
    upstream_key: str | None = field(default=None, repr=False)
    refusal: RefusalStyle = RefusalStyle.ERROR_400
    announce: Announce = Announce.COMMENT
    passthrough: bool = True
    max_request_bytes: int = 10 * 1024 * 1024
    max_response_bytes: int = 32 * 1024 * 1024
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 300.0
    reload_s: float = 2.0
    models: Models | None = None
    audit: AuditSettings | None = None
    admin: AdminSettings | None = None
    allowed_upstreams: tuple[str, ...] = ()
    keys: Path | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if (self.upstream == LITELLM) != (self.models is not None):
            raise SettingsError(
                f"--models FILE goes with --upstream {LITELLM}, and each needs the other"
            )
        if self.models is None:
            self._check_url()
        self._check_numbers()

    def _check_url(self) -> None:
        try:
            url = URL(self.upstream)
        except ValueError as error:
            raise SettingsError(f"--upstream: not a URL ({error})") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise SettingsError(
                f"--upstream: '{self.upstream}' is not an http(s) URL; "
                "try https://api.openai.com, http://127.0.0.1:8080 or litellm"
            )
        if url.query_string or url.fragment or url.user or url.password:
            raise SettingsError("--upstream: leave out user, password, query and fragment")
        allowed = {name.lower() for name in self.allowed_upstreams}
        if allowed and not allowed & {url.host.lower(), f"{url.host}:{url.port}".lower()}:
            raise SettingsError(
                f"--upstream: '{url.host}' is not allowed here; --allow-upstream names "
                + ", ".join(sorted(allowed))
            )

    def _check_numbers(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise SettingsError(f"--port: {self.port} is not between 0 and 65535")
        for name in ("max_request_bytes", "max_response_bytes"):
            if getattr(self, name) < 1024:
                raise SettingsError(f"--{name.replace('_', '-')}: use 1024 or more")
        for name in ("connect_timeout_s", "read_timeout_s"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"--{name.replace('_', '-')}: use more than 0")
        if not 0 <= self.reload_s <= 86_400:
            raise SettingsError("--reload-s: use 0 to 86400 seconds")
