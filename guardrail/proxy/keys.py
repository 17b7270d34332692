"""Keys of the proxy itself: who may use it, and by which policy each is judged.

A keys file (TOML) holds SHA-256 sums, never keys:

    [[keys]]
    name = "team-a"
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    policy = "strict"          # optional: a bundled name, or a path from this file

Keys are long random strings (``guardrail keys new``), so that a plain sum is as hard to undo as
the key is to guess. The file is read again when it changes: a key that is taken out stops working
within seconds. A file that cannot be used leaves the last one in force.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import tomllib
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from multidict import CIMultiDict

from guardrail.audit import AuditLog
from guardrail.check import Checker
from guardrail.errors import GuardrailError, SettingsError
from guardrail.policy import Policy, load_policy
from guardrail.proxy.choice import KEY_HEADERS
from guardrail.proxy.http import respond
from guardrail.proxy.metrics import Metrics
from guardrail.proxy.reload import FileWatch, Reloader
from guardrail.wire import WIRES
from guardrail.wire.routes import route_of

__all__ = ["HEADERS", "POLICY", "KeyEntry", "KeyRing", "read_keys"]

log = logging.getLogger("guardrail.proxy")

MAX_FILE_BYTES: Final = 1024 * 1024
OWN_HEADER: Final = KEY_HEADERS[0]
OPEN_PATHS: Final = frozenset({"/health/live", "/health/ready"})

POLICY: Final = web.RequestKey("guardrail_policy", Policy)
"""The policy of the key that a request came with, where it has one of its own."""
CLIENT: Final = web.RequestKey("guardrail_client", str)
"""Name of the key that a request came with."""
HEADERS: Final = web.RequestKey("guardrail_headers", CIMultiDict)
"""A request's headers without the proxy's key."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key.

    Args:
        name: What the log calls it.
        digest: SHA-256 of the key.
        policy: Name or path of its policy; None for the one in force.
    """

    name: str
    digest: bytes
    policy: str | None = None


def read_keys(file: Path) -> tuple[KeyEntry, ...]:
    """Read a keys file.

    Args:
        file: The file.

    Returns:
        Its entries.

    Raises:
        SettingsError: It cannot be read; the message names the entry and the fix.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise SettingsError(f"{file}: larger than 1 MiB; is this a keys file?")
        document = tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not TOML: {error}") from error
    keys = document.get("keys")
    if not isinstance(keys, list) or not keys:
        raise SettingsError(f"{file}: has no [[keys]]; `guardrail keys new` makes one")
    entries = tuple(_entry(file, number, one) for number, one in enumerate(keys, 1))
    if len({entry.name for entry in entries}) < len(entries):
        raise SettingsError(f"{file}: two keys have the same name; give each its own")
    return entries


def _entry(file: Path, number: int, one: Any) -> KeyEntry:
    place = f"{file}: key {number}"
    if not isinstance(one, dict):
        raise SettingsError(f"{place}: use [[keys]] with name and sha256")
    if unknown := sorted(one.keys() - {"name", "sha256", "policy"}):
        raise SettingsError(f"{place}: unknown '{unknown[0]}'; there are name, sha256 and policy")
    name, digest, policy = one.get("name"), one.get("sha256"), one.get("policy")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.@-]{1,64}", name):
        raise SettingsError(f"{place}: name must be 1 to 64 letters, digits, '.', '_', '@' or '-'")
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise SettingsError(f"{place} ({name}): sha256 must be 64 hex digits, never the key itself")
    if policy is not None and not isinstance(policy, str):
        raise SettingsError(f"{place} ({name}): policy must be a name or a path")
    if policy is not None and policy.endswith((".yaml", ".yml")):
        policy = str(file.parent / policy)
    return KeyEntry(name, bytes.fromhex(digest), policy)


@dataclass(slots=True)
class _Held:
    """The policy of some keys; a `Reloader` keeps it up to date."""

    policy: Policy
    checker: Checker
    metrics: Metrics
    audit: AuditLog | None


class KeyRing:
    """The keys in force.

    Args:
        file: The keys file.
        checker: Prepares the policies of keys.
        metrics: Counts who is turned away.
        audit: Where decisions are recorded, which policies of keys may require.
        every_s: Seconds between looks at the file; 0 looks only when asked to.

    Raises:
        GuardrailError: The file, or a policy that it names, cannot be used.
    """

    def __init__(
        self,
        file: Path,
        checker: Checker,
        metrics: Metrics,
        audit: AuditLog | None,
        every_s: float,
    ) -> None:
        self._file = file
        self._checker = checker
        self._metrics = metrics
        self._audit = audit
        self._every_s = every_s
        self._watch = FileWatch((str(file),), every_s, self._reload)
        self._held: dict[str, tuple[_Held, Reloader]] = {}
        self._entries = read_keys(file)

    async def start(self) -> None:
        """Prepare the policies, then watch the file.

        Raises:
            GuardrailError: A policy cannot be used.
        """
        await self._take(self._entries)
        self._watch.start()

    async def close(self) -> None:
        """Stop watching."""
        await self._watch.close()
        for _, reloader in self._held.values():
            await reloader.close()

    def request(self) -> None:
        """Read the file and the policies of keys again now."""
        self._watch.request()
        for _, reloader in self._held.values():
            reloader.request()

    def find(self, key: str) -> KeyEntry | None:
        """Return the entry of a key, or None; all are compared, whichever fits."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = None
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        return found

    def policy(self, entry: KeyEntry) -> Policy | None:
        """Return the policy of a key, where it has one of its own."""
        held = self._held.get(entry.policy or "")
        return held[0].policy if held else None

    async def _take(self, entries: tuple[KeyEntry, ...]) -> None:
        """Put entries in force, once the policies of all are ready."""
        wanted = {entry.policy for entry in entries if entry.policy is not None}
        fresh: dict[str, tuple[_Held, Reloader]] = {}
        async with AsyncExitStack() as stack:
            for name in sorted(wanted - self._held.keys()):
                policy = await asyncio.to_thread(load_policy, name)
                held = _Held(policy, self._checker, self._metrics, self._audit)
                reloader = Reloader(held, self._every_s)
                await reloader.start()
                stack.push_async_callback(reloader.close)
                fresh[name] = (held, reloader)
            stack.pop_all()
        self._entries = entries
        self._held |= fresh
        for name in self._held.keys() - wanted:
            await self._held.pop(name)[1].close()

    async def _reload(self) -> None:
        try:
            await self._take(await asyncio.to_thread(read_keys, self._file))
        except GuardrailError as error:
            log.warning("keys file refused, the last one stays in force: %s", error)
        else:
            log.warning("keys: %d in force", len(self._entries))

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Any]
    ) -> web.StreamResponse:
        """Let a request in whose key is known; else 401 in the client's dialect."""
        # As spelled, since any other spelling or method is forwarded.
        if request.rel_url.raw_path in OPEN_PATHS and request.method in ("GET", "HEAD"):
            return await handler(request)  # type: ignore[no-any-return]
        key, header = _presented(request)
        entry = self.find(key) if key else None
        if entry is None:
            self._metrics.unauthorized.inc()
            route = route_of(request.method, request.rel_url.raw_path, body=request.body_exists)
            wire = route.wire or WIRES["openai.chat"]
            message = "This proxy needs a key of its own: send it as a bearer token."
            reply = wire.error(401, message, type="authentication_error", code="invalid_api_key")
            return respond(reply, {"WWW-Authenticate": "Bearer"})
        request[CLIENT] = entry.name
        policy = self.policy(entry)
        if policy is not None:
            request[POLICY] = policy
        if header != OWN_HEADER:  # the proxy's key is not for the upstream
            request[HEADERS] = CIMultiDict(
                (name, value) for name, value in request.headers.items() if name.lower() != header
            )
        return await handler(request)  # type: ignore[no-any-return]


def _presented(request: web.Request) -> tuple[str, str]:
    """Return the key of a request and the header that it came in."""
    for header in KEY_HEADERS:
        if value := request.headers.get(header):
            return value, header
    bearer = request.headers.get("Authorization", "")
    return (bearer[7:].strip() if bearer[:7].lower() == "bearer " else ""), "authorization"
