"""A guard's endpoint for tests: real HTTP, scripted answers."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any, dict[str, str]]


def logprobs(yes: float) -> dict[str, Any]:
    """A chat completion whose first word is Yes with a probability."""
    top = [
        {"token": "Yes", "logprob": math.log(yes * 0.8)},
        {"token": " yes", "logprob": math.log(yes * 0.1)},
        {"token": "No", "logprob": math.log((1 - yes) * 0.9)},
        {"token": "Maybe", "logprob": math.log(0.1)},
    ]
    choice = {"message": {"content": "No"}, "logprobs": {"content": [{"top_logprobs": top}]}}
    return {"choices": [choice]}


@dataclass
class GuardServer:
    """What was asked, and what is answered.

    Args:
        answer: Gets path and body, returns status, body (bytes as they are, else JSON), headers.
    """

    answer: Callable[[str, Any], Reply]
    url: str = ""
    asked: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    busiest: int = 0
    _now: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["content-length"])))
        with self._lock:
            self.asked.append(body)
            self.headers.append(dict(request.headers))
            self._now += 1
            self.busiest = max(self.busiest, self._now)
        try:
            status, reply, headers = self.answer(request.path, body)
        finally:
            with self._lock:
                self._now -= 1
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        request.send_response(status)
        for name, value in {"content-length": str(len(data)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)


def text_of(body: Any) -> str:
    """The text to judge of a rubric question."""
    content = body["messages"][-1]["content"]
    return content.rsplit("<<<\n", 1)[1].rsplit("\n>>>", 1)[0]


@contextmanager
def guard_server(answer: Callable[[str, Any], Reply], port: int = 0) -> Iterator[GuardServer]:
    """Run an endpoint."""
    server = GuardServer(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            try:
                server.handle(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
