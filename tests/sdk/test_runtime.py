"""One model and one loop for a process, made late, and made anew after a fork."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from guardrail import Guardrail
from guardrail.sdk.runtime import runtime

ROOT = Path(__file__).parent.parent.parent


def run(code: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, env=env, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_is_quick_and_loads_no_model() -> None:
    out = run(
        """
        import time
        start = time.process_time()
        import guardrail
        spent = time.process_time() - start
        from guardrail import Guardrail, guard, guard_client
        Guardrail.load("default")
        import sys
        print(spent < 3, [m for m in ("onnxruntime", "tokenizers", "aiohttp", "torch", "openai")
                            if m in sys.modules])
        """
    )
    assert out.strip() == "True []"


def test_a_forked_child_judges_with_a_model_of_its_own() -> None:
    out = run(
        """
        import os, warnings
        warnings.simplefilter("ignore")
        from guardrail import Guardrail
        rail = Guardrail.load()
        before = rail.check("hello")
        child = os.fork()
        if child == 0:
            same = rail.check("hello").scores.categories == before.scores.categories
            os._exit(0 if same else 1)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), rail.check("hello") == before)
        """
    )
    assert out.strip() == "0 True"


def test_the_model_is_loaded_once_for_many_guardrails_and_threads() -> None:
    out = run(
        """
        import guardrail.sdk.runtime as home
        from concurrent.futures import ThreadPoolExecutor
        from guardrail import Guardrail
        count = 0
        load = home.load_classifier
        def counted(bundle):
            global count
            count += 1
            return load(bundle)
        home.load_classifier = counted
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: Guardrail.load().check(f"text {i}"), range(8)))
        print(count)
        """
    )
    assert out.strip() == "1"


async def test_a_sync_wait_on_the_background_loop_is_refused_not_hung(rail: Guardrail) -> None:
    async def inside() -> None:
        rail.check("x")

    with pytest.raises(RuntimeError, match="own event loop"):
        await asyncio.wrap_future(runtime().submit(inside()))


def test_two_calls_get_the_same_runtime() -> None:
    assert runtime() is runtime()
