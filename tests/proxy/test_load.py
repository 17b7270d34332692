"""A short run of the load test: streams whole or filtered, nothing leaked, connections held."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent.parent / "bench" / "bench_load.py"


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_some_seconds_of_load_leak_nothing_and_drop_nobody() -> None:
    command = [sys.executable, str(BENCH), "--seconds", "5", "--streams", "12", "--idle", "300"]
    done = subprocess.run(
        [*command, "--rate", "60"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS" in done.stdout
