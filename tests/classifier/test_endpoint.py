"""What an endpoint promises: bounded time, bounded answers, named failures, quiet about keys."""

from __future__ import annotations

import gzip
import socket
import threading
import time

import pytest

from guardrail.classifier.endpoint import MAX_ANSWER_BYTES, Endpoint, EndpointError
from guardrail.errors import SettingsError
from tests.guard_server import guard_server

KEY = "sk-very-secret"


def endpoint(url: str, timeout_s: float = 2.0, retries: int = 1) -> Endpoint:
    return Endpoint(url, KEY, timeout_s=timeout_s, retries=retries, connections=2)


def failure(answer, **kw) -> EndpointError:
    with guard_server(answer) as server, pytest.raises(EndpointError) as caught:
        endpoint(server.url, **kw).post("/x", {"a": 1})
    assert KEY not in str(caught.value)
    return caught.value


def test_json_goes_out_and_comes_back_with_the_key_in_a_header() -> None:
    with guard_server(lambda path, body: (200, {"path": path, "body": body}, {})) as server:
        one = endpoint(server.url + "/")
        assert one.post("/x", {"a": "ü\ud800"}) == {"path": "/v1/x", "body": {"a": "ü\ud800"}}
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
        assert KEY not in repr(one)
        one.close()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_passing_fault_is_tried_again(status: int) -> None:
    replies = iter([(status, {}, {"retry-after": "0"}), (200, {"ok": 1}, {})])
    with guard_server(lambda *_: next(replies)) as server:
        assert endpoint(server.url).post("/x", {}) == {"ok": 1}


@pytest.mark.parametrize(
    ("reply", "reason", "words"),
    [
        ((429, {}, {"retry-after": "30"}), "rate_limited", "429"),
        ((429, {}, {"retry-after": "nonsense"}), "rate_limited", "429"),
        ((503, {}, {}), "unavailable", "503"),
        ((500, {}, {}), "unavailable", "500"),
        ((401, {}, {}), "failure", "key_env"),
        ((404, {"error": {"message": "no model m"}}, {}), "failure", "no model m"),
        ((400, b"\xff\xfe", {}), "rejected", "400"),
        ((413, b"", {}), "too_large", "413"),
        ((302, b"", {"location": "http://127.0.0.1:1/"}), "failure", "302"),
        ((200, b"<html>", {}), "garbage", "not JSON"),
        ((200, b"[" * 100_000, {}), "garbage", "not JSON"),
        ((200, b" " * (MAX_ANSWER_BYTES + 70_000), {}), "garbage", "longer than"),
        (
            (200, gzip.compress(b" " * (MAX_ANSWER_BYTES * 3)), {"content-encoding": "gzip"}),
            "garbage",
            "longer than",
        ),
        ((200, b"not gzip", {"content-encoding": "gzip"}), "unavailable", "DecodeError"),
    ],
)
def test_every_failure_has_a_reason(reply, reason: str, words: str) -> None:
    error = failure(lambda *_: reply, retries=0)
    assert (error.reason, words in str(error)) == (reason, True)
    assert error.wait_s == (30.0 if reply[2].get("retry-after") == "30" else 0.0)


def test_a_wait_beyond_the_deadline_is_not_waited_for() -> None:
    started = time.monotonic()
    error = failure(lambda *_: (429, {}, {"retry-after": "3600"}), timeout_s=30.0, retries=5)
    assert error.reason == "rate_limited"
    assert time.monotonic() - started < 15.0


def test_a_slow_answer_is_a_time_out_and_not_tried_again() -> None:
    asked = []

    def slow(*_):
        asked.append(1)
        time.sleep(0.6)
        return 200, {}, {}

    assert failure(slow, timeout_s=0.2, retries=3).reason == "timeout"
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", b" "),
        (b"HTTP/1.1 503 Away\r\ncontent-length: 60000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nx-long: ", b"a"),
    ],
    ids=["chunks", "body", "until the end", "body of a retry", "headers"],
)
def test_an_answer_that_drips_ends_with_the_deadline(head: bytes, drop: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)

    def drip() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(head)
            try:
                for _ in range(200):
                    peer.sendall(drop)
                    time.sleep(0.05)
            except OSError:
                pass

    thread = threading.Thread(target=drip)
    thread.start()
    started = time.monotonic()
    with pytest.raises(EndpointError) as caught:
        endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.3).post("/", {})
    assert caught.value.reason == "timeout"
    assert time.monotonic() - started < 5.0
    listener.close()
    thread.join()


def test_a_connection_is_kept_beyond_the_time_of_one_answer() -> None:
    with guard_server(lambda *_: (200, {}, {})) as server:
        one = endpoint(server.url, timeout_s=0.4)
        kept = set()
        for _ in range(3):
            assert one.post("/x", {}) == {}
            time.sleep(0.5)
            idle = one._pool.connection_from_url(server.url).pool
            kept |= {known.sock.getsockname() for known in idle.queue if known is not None}
        assert len(kept) == 1


def test_an_endpoint_that_is_not_there_is_named() -> None:
    with pytest.raises(EndpointError) as caught:
        endpoint("http://127.0.0.1:9/v1").post("/x", {})
    assert caught.value.reason == "unavailable"
    assert "is it running?" in str(caught.value)


def test_retries_have_a_budget(monkeypatch) -> None:
    monkeypatch.setattr("guardrail.classifier.endpoint.BACKOFF_S", 0.001)
    with guard_server(lambda *_: (503, {}, {"retry-after": "0"})) as server:
        one = endpoint(server.url, timeout_s=20.0, retries=5)
        for _ in range(8):
            with pytest.raises(EndpointError):
                one.post("/x", {})
        assert len(server.asked) <= 8 + 11


def test_a_key_that_no_header_may_have_is_refused_without_showing_it() -> None:
    with pytest.raises(SettingsError) as caught:
        Endpoint("http://h", "a\nb-secret", timeout_s=1, retries=0, connections=1)
    assert "secret" not in str(caught.value)
