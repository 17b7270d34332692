"""The drop-in proxy in front of an LLM API.

`settings` says what to run, `app` routes and checks, `server` runs it, `upstream` speaks to the
API, `answer` takes an answer through the relay, `metrics` counts. These are the only importers
of the aiohttp server and client. This room knows no training code.
"""

from guardrail.proxy.server import make_app, serve
from guardrail.proxy.settings import Announce, Settings

__all__ = ["Announce", "Settings", "make_app", "serve"]
