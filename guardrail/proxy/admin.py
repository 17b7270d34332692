"""The operator's side: a port of its own with the console and the interface behind it.

It is bound to loopback unless the operator says otherwise, and everything but the console's own
static files asks for the token. The token travels in the Authorization header only, so that no
other page can act for the operator (there is no cookie that a browser would add by itself).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from guardrail.errors import GuardrailError, SettingsError
from guardrail.proxy.admin_api import AdminApi, InForce
from guardrail.proxy.settings import AdminSettings

__all__ = ["admin_site", "make_admin"]

log = logging.getLogger("guardrail.proxy")

MAX_BODY_BYTES: Final = 262_144

_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript",
                 ".svg": "image/svg+xml"}  # fmt: skip
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


def make_admin(token: str, proxy: InForce) -> web.Application:
    """Build the operator's application.

    Args:
        token: What every request for data must carry.
        proxy: What is in force.
    """
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_guard(token)])
    AdminApi(proxy).add_routes(app.router)
    for file in sorted(Path(str(resources.files("guardrail.proxy") / "console")).iterdir()):
        if file.suffix in _TYPES:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            app.router.add_get(path, _static(file.read_bytes(), _TYPES[file.suffix]))
    return app


@asynccontextmanager
async def admin_site(
    settings: AdminSettings, proxy: InForce, *, shared: bool = False
) -> AsyncIterator[int]:
    """Serve the operator's side for a while.

    Args:
        settings: Where.
        proxy: What is in force.
        shared: Whether other processes listen on the same port.

    Yields:
        The port.

    Raises:
        SettingsError: The address cannot be listened on.
    """
    runner = web.AppRunner(
        make_admin(settings.token, proxy),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, reuse_port=shared or None)
        try:
            await site.start()
        except OSError as error:
            raise SettingsError(
                f"--admin-port: cannot listen on {settings.host}:{settings.port} "
                f"({error.strerror}); name another port"
            ) from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _guard(token: str) -> Middleware:
    expected = token.encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        header = request.headers.get("Authorization", "")  # any bytes, with what is not UTF-8
        given = header.removeprefix("Bearer ").encode("utf-8", "surrogateescape")
        # Compared in constant time; the length of the token is no secret.
        if request.path.startswith("/api/") and not hmac.compare_digest(given, expected):
            response: web.StreamResponse = _refusal(401, "the token is missing or wrong")
        else:
            response = await _answer(request, handler)
        response.headers.update(_HEADERS)
        return response

    return guard


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer, or say as JSON what is wrong."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _refusal(error.status, error.reason)
    except GuardrailError as error:
        return _refusal(400, str(error))
    except asyncio.CancelledError:
        raise
    except Exception:  # the last resort: no traceback to the client
        log.exception("the admin interface failed on %s", request.path)
        return _refusal(500, "the console's server failed; see its log")


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


def _static(content: bytes, kind: str) -> Handler:
    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=content, content_type=kind, charset="utf-8")

    return serve
