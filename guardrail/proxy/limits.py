"""Bounds on what clients and upstreams may take: sizes, times and numbers, all settable."""

from __future__ import annotations

from dataclasses import dataclass, fields

from guardrail.errors import SettingsError

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one proxy process.

    Args:
        header_bytes: Longest request line, and longest single header; of those at most 128.
        header_s: Longest time from the first byte of a request to the end of its headers.
        idle_s: Longest life of a connection that asks nothing.
        write_s: Longest time that a client may leave what was sent to it unread.
        connections: Most open connections; further ones are closed at once.
        concurrency: Most requests in progress; beyond it the policy's failure mode decides.
        body_memory_bytes: Most memory for the bodies of all requests in progress.
        stream_bytes: Longest streamed answer.
        stream_s: Longest time that a streamed answer may take.
        batch_s: What one batch of the classifier should take: a newcomer waits for at most
            one batch in progress. Small batches cost throughput.
        drain_delay_s: Time between the signal to stop, when readiness becomes false, and the
            end of listening: for load balancers to notice.
        drain_s: Longest wait for answers in progress after that.

    Raises:
        SettingsError: A value that cannot be used, with the flag to change.
    """

    header_bytes: int = 16_384
    header_s: float = 20.0
    idle_s: float = 600.0
    write_s: float = 60.0
    connections: int = 10_000
    concurrency: int = 1_000
    body_memory_bytes: int = 512 * 1024 * 1024
    stream_bytes: int = 64 * 1024 * 1024
    stream_s: float = 3_600.0
    batch_s: float = 0.25
    drain_delay_s: float = 0.0
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least = 0 if one.name.startswith("drain") else 1024 if "bytes" in one.name else None
            if least is not None and not value >= least:
                raise SettingsError(f"{_flag(one.name)}: use {least} or more")
            if least is None and not value > 0:
                raise SettingsError(f"{_flag(one.name)}: use more than 0")


def _flag(name: str) -> str:
    return "--" + ("" if name.startswith("drain") else "max-") + name.replace("_", "-")
