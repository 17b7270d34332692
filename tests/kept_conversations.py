"""A server that keeps conversations as OpenAI's does, for the proxy and for guarded clients."""

from __future__ import annotations

import json
import re
from typing import Any

from aiohttp import web


class Conversations:
    """What is kept, and how it is asked for.

    Attributes:
        items: The items of the one conversation, which anything may be put into.
        taken: Methods and paths of the requests that came.
    """

    def __init__(self, *texts: str) -> None:
        self.items: list[dict[str, Any]] = []
        self.taken: list[tuple[str, str]] = []
        self._add([{"role": "user", "content": text} for text in texts])

    def _add(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        added = []
        for item in items:
            made = {"type": "message", **item, "id": f"msg_{len(self.items)}"}
            if isinstance(made.get("content"), str):
                made["content"] = [{"type": "input_text", "text": made["content"]}]
            self.items.append({**made, "status": "completed"})
            added.append(self.items[-1])
        return added

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request under ``/v1/conversations``."""
        self.taken.append((request.method, request.path))
        body = json.loads(await request.text() or "{}")
        return web.json_response(self._answer(request.method, request.path, body))

    def _answer(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        one = re.search(r"/items/msg_(\d+)$", path)
        if one and method == "GET":
            return self.items[int(one[1])]
        if path.endswith("/items"):
            listed = self._add(body["items"]) if method == "POST" else self.items
            ids = [item["id"] for item in listed] or [""]
            ends = {"first_id": ids[0], "last_id": ids[-1], "has_more": False}
            return {"object": "list", "data": listed, **ends}
        if one:
            del self.items[int(one[1])]
        elif method == "DELETE":
            return {"id": "conv_1", "object": "conversation.deleted", "deleted": True}
        self._add(body.get("items") or [])
        kept = {"id": "conv_1", "object": "conversation", "created_at": 1}
        return {**kept, "metadata": body.get("metadata") or {}}
