"""What runs the graph is chosen with a logged reason, and a wrong graph is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from guardrail.classifier import encoder, session
from guardrail.classifier.bundle import Bundle
from guardrail.errors import BundleError


class Runtime:
    def __init__(self, *offered: str) -> None:
        self.offered = list(offered)

    def get_available_providers(self) -> list[str]:
        return self.offered


class Opened:
    def __init__(self, used: str) -> None:
        self.used = used

    def get_providers(self) -> list[str]:
        return [self.used]


CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def test_cuda_comes_first_where_it_is_offered_and_oddities_are_left_alone() -> None:
    assert session._providers(Runtime("TensorrtExecutionProvider", CPU, CUDA), None) == [CUDA, CPU]
    assert session._providers(Runtime(CPU, "AzureExecutionProvider"), None) == [CPU]
    assert session._providers(Runtime(CPU, CUDA), [CPU]) == [CPU]


@pytest.mark.parametrize(
    ("used", "chosen", "said"),
    [
        (CUDA, [CUDA, CPU], "running on CUDA"),
        (CPU, [CUDA, CPU], "could not be started"),
        (CPU, [CPU], "not offered or not wanted"),
    ],
)
def test_the_reason_is_logged(
    used: str, chosen: list[str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    opened: Any = Opened(used)
    session._explain(opened, chosen)
    assert said in caplog.text


def test_without_onnxruntime_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BundleError, match=r"pip install 'guardrail\[cpu\]'"):
        encoder.EncoderClassifier(Bundle.open())


def test_the_runtime_is_kept_from_reporting_to_its_maker() -> None:
    code = (
        "import os; os.environ.pop('ORT_DISABLE_TELEMETRY', None)\n"
        "from guardrail.classifier import load_classifier\n"
        "load_classifier(); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    # Without a home the reporter complains that it cannot keep its identity of this machine.
    env = {**os.environ, "HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    assert done.stdout.strip() == "1"
    assert "telemetry" not in done.stderr
