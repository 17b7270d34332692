"""The drop-in proxy in front of an LLM API.

`settings` and `limits` say what to run, `app` routes and checks, `server` runs it in one process
and `workers` in several, `upstream` speaks to the API, `answer` takes an answer through the relay.
`admission`, `connections` and `keys` say who may come in; `metrics`, `tracing` and `logs` tell of
it. These are the only importers of the aiohttp server and client. This room knows no training
code. Names are imported when they are first used: the command line reads defaults from here.
"""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from guardrail.proxy.limits import Limits
    from guardrail.proxy.server import make_app, serve
    from guardrail.proxy.settings import AdminSettings, Announce, Settings

__all__ = ["AdminSettings", "Announce", "Limits", "Settings", "make_app", "serve"]

_HOMES: Final = MappingProxyType(
    {
        "AdminSettings": "settings",
        "Announce": "settings",
        "Limits": "limits",
        "Settings": "settings",
        "make_app": "server",
        "serve": "server",
    }
)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'guardrail.proxy' has no attribute '{name}'")
    return getattr(importlib.import_module(f"guardrail.proxy.{_HOMES[name]}"), name)
