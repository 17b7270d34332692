"""Several processes on one port: started, watched, restarted, stopped together.

Each worker is a whole proxy with a model of its own and a listening socket of its own on the same
port (SO_REUSEPORT): the kernel spreads connections over them. The parent loads no model and
serves nothing; it passes signals on, starts a worker anew that died, later each time, and stops
all of them when it is asked to. When the parent itself is killed, its workers drain and end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

from prometheus_client.multiprocess import mark_process_dead

from guardrail.classifier import load_classifier
from guardrail.classifier.base import Sample
from guardrail.classifier.recalibrated import recalibrate
from guardrail.errors import GuardrailError, SettingsError
from guardrail.policy import load_policy
from guardrail.proxy.logs import LogFormat, set_up
from guardrail.proxy.metrics import MULTIPROCESS_DIR
from guardrail.proxy.server import PROXY, make_app, run
from guardrail.proxy.settings import AdminSettings, Settings

__all__ = ["Job", "Supervisor"]

log = logging.getLogger("guardrail.proxy")

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0
HEALTHY_S: Final = 60.0
"""A worker that lived for so long has its past forgiven: its successor comes soon."""
GRACE_S: Final = 10.0
"""How much longer than its own drain a worker may take to end."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker does.

    Args:
        settings: What the operator set; the port is filled in by the supervisor.
        policy: Policy file or bundled name.
        bundle: Model folder; None for the embedded one.
        threads: Threads of one forward pass; None shares the cores among the workers.
        log_format: How the log is written.
        log_level: What is logged.
        calibration: A calibration of the operator's own; None for that of the bundle.
    """

    settings: Settings
    policy: str
    bundle: str | None
    threads: int | None
    log_format: LogFormat
    log_level: int
    calibration: Path | None = None


@dataclass(slots=True)
class _Worker:
    """One place for a worker, whoever fills it now."""

    process: SpawnProcess | None = None
    pipe: Connection | None = None
    born: float = 0.0
    wait_s: float = 0.0
    due: float = 0.0
    ready: bool = False


class Supervisor:
    """Runs workers until it is asked to stop.

    Args:
        job: What they do.
        count: How many.
        started: Called with the port and the model's id once all of them listen.
        died: Called with the exit code of a worker that ended unasked and the seconds until
            the next is started in its place.
    """

    def __init__(
        self,
        job: Job,
        count: int,
        started: Callable[[int, str], None],
        died: Callable[[int, float], None],
    ) -> None:
        threads = job.threads or max(1, _cores() // count)
        self._job = replace(job, threads=threads)
        self._started = started
        self._died = died
        self._workers = [_Worker() for _ in range(count)]
        self._context = multiprocessing.get_context("spawn")
        self._stopping = False
        self._stop_by = 0.0
        self._model = ""
        self._announced = False

    def run(self) -> None:
        """Start the workers and stay until SIGTERM or SIGINT, and until all of them have ended.

        Raises:
            OSError: The address cannot be listened on.
            SettingsError: A worker could not be started for the first time, or the console's
                address cannot be listened on.
        """
        settings = self._job.settings
        with (
            _reserved(settings.host, settings.port) as port,
            _reserved_admin(settings.admin),
            _shared_counts(),
            self._signals(),
        ):
            self._job = replace(self._job, settings=replace(settings, port=port))
            try:
                while not self._stopping or self._in_time():
                    self._turn(port)
            finally:
                self._end()

    def _in_time(self) -> bool:
        """Return whether a worker is still draining, and may."""
        return any(w.process for w in self._workers) and time.monotonic() < self._stop_by

    def _turn(self, port: int) -> None:
        """Start what is due, wait for the next thing to happen, and deal with it."""
        for worker in self._workers:
            if worker.process is None and not self._stopping and time.monotonic() >= worker.due:
                self._start(worker)
        alive = [worker for worker in self._workers if worker.process is not None]
        watched: list[Any] = [w.process.sentinel for w in alive if w.process]
        watched += [worker.pipe for worker in alive if worker.pipe and not worker.ready]
        wait(watched, timeout=0.2)
        for worker in alive:
            if worker.pipe is not None and not worker.ready and worker.pipe.poll():
                with contextlib.suppress(EOFError):
                    self._model, worker.ready = worker.pipe.recv(), True
            if worker.process is not None and not worker.process.is_alive():
                self._bury(worker)
        if not self._announced and all(worker.ready for worker in self._workers):
            self._announced = True
            self._started(port, self._model)

    def _start(self, worker: _Worker) -> None:
        ours, theirs = self._context.Pipe()
        again = self._announced  # one that dies before that ends the start
        process = self._context.Process(
            target=_work, args=(self._job, theirs, again), name="guardrail-worker"
        )
        process.start()
        theirs.close()
        worker.process, worker.pipe = process, ours
        worker.ready, worker.born = False, time.monotonic()
        if self._stopping:  # a signal that came before it was known here has not reached it
            process.terminate()

    def _bury(self, worker: _Worker) -> None:
        """Take note that a worker has ended; plan the next, later each time."""
        process = worker.process
        assert process is not None
        assert process.pid is not None
        process.join()
        mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
        if worker.pipe is not None:
            worker.pipe.close()
        worker.process, worker.pipe = None, None
        if self._stopping:
            return
        if not self._announced:
            raise SettingsError("a worker could not be started; its own message is above")
        lived = time.monotonic() - worker.born
        doubled = min(max(worker.wait_s * 2, FIRST_WAIT_S), LONGEST_WAIT_S)
        worker.wait_s = FIRST_WAIT_S if lived > HEALTHY_S else doubled
        worker.due = time.monotonic() + worker.wait_s
        self._died(process.exitcode or 0, worker.wait_s)

    def _end(self) -> None:
        """See to it that no worker outlives this process."""
        until = time.monotonic() + GRACE_S
        for worker in self._workers:
            if worker.process is not None and worker.process.is_alive():
                worker.process.terminate()
        for worker in self._workers:
            if worker.process is not None:
                worker.process.join(max(0.0, until - time.monotonic()))
                worker.process.kill()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        limits = self._job.settings.limits

        def stop(_: int, __: object) -> None:
            if not self._stopping:
                self._stop_by = time.monotonic() + limits.drain_delay_s + limits.drain_s + GRACE_S
            self._stopping = True
            self._tell(signal.SIGTERM, self._workers)

        def reload(_: int, __: object) -> None:
            # One that has not begun to listen reads the files as they are; a signal would end it.
            self._tell(signal.SIGHUP, [worker for worker in self._workers if worker.ready])

        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _tell(self, number: signal.Signals, workers: Sequence[_Worker]) -> None:
        for worker in workers:
            if worker.process is not None and worker.process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.process.pid, number)


def _work(job: Job, parent: Connection, again: bool) -> None:
    """Be one worker.

    Args:
        job: What to do.
        parent: Told once this listens; closed when the parent is gone.
        again: Whether this stands in for a worker that died.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears of it, and says SIGTERM
    set_up(job.log_format, job.log_level)
    try:
        policy = load_policy(job.policy)
        encoder = load_classifier(job.bundle, threads=job.threads)
        classifier = recalibrate(encoder, job.calibration)
        classifier.score([Sample("The first pass is slower than the others.")])
        app = make_app(job.settings, policy, classifier)
        if again:
            app[PROXY].metrics.worker_restarts.inc()

        def started(_: int) -> None:
            parent.send(classifier.model_id)

        asyncio.run(run(app, job.settings, started, shared=True, parent=parent.fileno()))
    except (GuardrailError, OSError) as error:
        log.error("worker: %s", error)
        raise SystemExit(1) from error


@contextlib.contextmanager
def _reserved(host: str, port: int) -> Iterator[int]:
    """Hold a port that workers share, and that nobody else listens on; yield its number."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise SettingsError("--workers: this system cannot share a port; use 1")
    family, kind, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # Without SO_REUSEPORT first: two proxies must not share a port unawares.
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        port = int(probe.getsockname()[1])
    with socket.socket(family, kind) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((address[0], port, *address[2:]))
        yield port


@contextlib.contextmanager
def _reserved_admin(admin: AdminSettings | None) -> Iterator[None]:
    """Hold the console's port, too, where there is a console."""
    with contextlib.ExitStack() as held:
        if admin is not None:
            try:
                held.enter_context(_reserved(admin.host, admin.port))
            except OSError as error:
                raise SettingsError(
                    f"--admin-port: cannot listen on {admin.host}:{admin.port} "
                    f"({error.strerror}); name another port"
                ) from error
        yield


@contextlib.contextmanager
def _shared_counts() -> Iterator[None]:
    """Give the workers a folder where their metrics add up."""
    folder = tempfile.mkdtemp(prefix="guardrail-metrics-")
    os.environ[MULTIPROCESS_DIR] = folder
    try:
        yield
    finally:
        del os.environ[MULTIPROCESS_DIR]
        shutil.rmtree(folder, ignore_errors=True)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
