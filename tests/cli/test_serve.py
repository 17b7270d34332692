"""What `guardrail serve` promises as a real process with the embedded model."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ANSWER = {
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Bridges are built of stone."},
            "finish_reason": "stop",
        }
    ]
}


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body.get("slow"):
            time.sleep(1.0)
        data = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as upstream:
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{upstream.server_port}"
        command = [sys.executable, "-u", "-m", "guardrail", "serve", "-u", address, "--port", "0"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("guardrail listens on"), process.stderr.read()
            yield process, line.split()[-1]
            process.terminate()
        upstream.shutdown()


def ask(url: str, text: str, **more: object) -> tuple[int, dict[str, object]]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        return response.status, json.load(response)


def memory_mb(process: subprocess.Popen[str]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def test_it_serves_within_its_memory_and_stops_on_sigterm(server) -> None:
    process, url = server
    for _ in range(20):
        assert ask(url, "Tell me about old bridges.") == (200, ANSWER)
    assert memory_mb(process) < 350
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_an_answer_in_progress_may_finish_on_sigterm(server) -> None:
    process, url = server
    answers: list[tuple[int, dict[str, object]]] = []
    asking = threading.Thread(target=lambda: answers.append(ask(url, "Hello", slow=True)))
    asking.start()
    time.sleep(0.4)
    process.send_signal(signal.SIGTERM)
    asking.join(10)
    assert answers == [(200, ANSWER)]
    assert process.wait(10) == 0
    with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url, timeout=2):
        pytest.fail("it still listens")


def test_an_address_in_use_is_one_clear_line(server) -> None:
    _, url = server
    port = url.rpartition(":")[2]
    command = [sys.executable, "-m", "guardrail", "serve", "-u", "http://h", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 4
    assert "cannot listen on" in done.stderr
    assert "Traceback" not in done.stderr
