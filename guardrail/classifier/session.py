"""Opens a bundle's graph in ONNX Runtime: threads, providers, and why those.

It is handed the onnxruntime module: `encoder` alone imports it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from guardrail.classifier.bundle import Bundle
from guardrail.errors import BundleError

__all__ = ["open_session"]

_log = logging.getLogger(__name__)

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def open_session(
    runtime: Any, bundle: Bundle, threads: int | None, providers: Sequence[str] | None
) -> Any:
    """Open a bundle's graph, and log what runs it.

    Args:
        runtime: The onnxruntime module.
        bundle: A verified bundle.
        threads: Threads of one run; None for one for each CPU that the process may use.
        providers: Execution providers; None for CUDA where usable, else the CPU.

    Returns:
        The session.

    Raises:
        BundleError: The graph cannot be loaded, or has another number of outputs than the
            manifest names.
    """
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or _cpus()
    options.inter_op_num_threads = 1
    # A spinning pool would eat the cores that the event loop and the upstream need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    chosen = _providers(runtime, providers)
    try:
        session = runtime.InferenceSession(str(bundle.model_path), options, providers=chosen)
    except Exception as error:  # onnxruntime's errors share no base class
        raise BundleError(f"{bundle.model_path}: cannot be loaded: {error}") from error
    _explain(session, chosen)
    width = session.get_outputs()[0].shape[-1]
    if width != len(bundle.outputs):
        raise BundleError(
            f"{bundle.model_path}: has {width} outputs, the manifest names {len(bundle.outputs)}"
        )
    return session


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _providers(runtime: Any, wanted: Sequence[str] | None) -> list[str]:
    if wanted is not None:
        return list(wanted)
    offered = runtime.get_available_providers()
    return [name for name in (_CUDA, _CPU) if name in offered]


def _explain(session: Any, chosen: Sequence[str]) -> None:
    """Log what runs the model, and why it is not CUDA where it is not."""
    used = session.get_providers()[0]
    if used == _CPU and _CUDA in chosen:
        _log.warning("running on the CPU: CUDA is offered but could not be started")
    elif used == _CPU:
        _log.info("running on the CPU: CUDA is not offered or not wanted")
    else:
        _log.info("running on %s", used)
