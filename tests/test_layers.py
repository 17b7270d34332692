"""The house rule: a file imports only from rooms of a lower rank, and heavy things stay home."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "guardrail"

RANKS = {
    "types": 0,
    "errors": 0,
    "taxonomy": 1,
    "watch": 1,
    "policy": 1,
    "classifier": 2,
    "decide": 2,
    "redact": 3,
    "judged": 3,
    "stream": 3,
    "wire": 3,
    "check": 4,
    "escalate": 4,
    "relay": 4,
    "audit": 5,
    "sdk": 5,
    "proxy": 5,
    "train": 5,
    "evaluate": 5,
    "__init__": 6,
    "cli": 6,
    "__main__": 7,
}
"""Rank of each room. Rooms of one rank do not import one another."""

ONLY_IN = {
    "yaml": {"policy/reader.py"},
    "onnxruntime": {"classifier/__init__.py", "classifier/encoder.py", "train/"},
    "tokenizers": {"classifier/encoder.py", "train/"},
    "torch": {"classifier/local.py", "train/"},
    "transformers": {"classifier/local.py", "train/"},
    "optimum": {"classifier/local.py", "train/"},
    "aiohttp": {"proxy/"},
    "urllib3": {"classifier/endpoint.py"},
    "asyncio": {"check.py", "escalate.py", "relay.py", "proxy/", "sdk/", "audit/", "cli/"},
    "sqlite3": {"audit/backend.py"},
    "psycopg": {"audit/backend.py"},
    "cryptography": {"audit/seal.py"},
    "pyarrow": {"audit/export.py", "evaluate/records.py"},
}
"""The only files, or folders, that may import a module."""

SAME_RANK_ALLOWED = {
    ("errors", "types"),
    ("policy", "taxonomy"),
    ("check", "escalate"),
    ("train", "evaluate"),
    ("proxy", "audit"),
    ("sdk", "audit"),
}
"""Importer and imported of equal rank: `GuardrailBlocked` carries a `Verdict`, a policy names
categories, a check escalates, training ends with a report, and what serves records what it
decided."""


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Return the absolute names of all that a file imports, relative and from-imports too."""
    package = ["guardrail", *path.relative_to(ROOT).parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.add(module)
            if module == "guardrail":
                found |= {f"guardrail.{alias.name}" for alias in node.names}
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_from_rooms_of_a_lower_rank(path: Path) -> None:
    room = room_of(path)
    for name in imports(path):
        if not name.startswith("guardrail.") or name == "guardrail.__version__":
            continue
        other = name.split(".")[1]
        assert other in RANKS, f"{path.name} imports {name}: give the room {other} a rank"
        allowed = other == room or RANKS[other] < RANKS[room] or (room, other) in SAME_RANK_ALLOWED
        assert allowed, f"{path.relative_to(ROOT)} (rank {RANKS[room]}) imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_modules_are_imported_only_where_they_belong(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    for name in imports(path):
        homes = ONLY_IN.get(name.split(".")[0])
        assert homes is None or any(
            place == home or (home.endswith("/") and place.startswith(home)) for home in homes
        ), f"{place} imports {name}, which belongs in {homes}"


def test_every_room_has_a_rank_and_every_rank_a_room() -> None:
    present = {room_of(path) for path in FILES}
    assert present == set(RANKS)


def _run(code: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


BLOCK_TORCH = (
    "import sys\n"
    "for name in ('torch', 'transformers', 'optimum', 'onnx', 'sklearn'):\n"
    "    sys.modules[name] = None\n"
)


def test_the_server_imports_and_scores_without_torch_installed() -> None:
    code = (
        BLOCK_TORCH + "from guardrail.proxy import make_app, Settings\n"
        "from guardrail.policy import bundled\n"
        "from guardrail.classifier import Sample, load_classifier\n"
        "c = load_classifier(None)\n"
        "make_app(Settings('http://127.0.0.1:1'), bundled(), c)\n"
        "print(0 <= c.score([Sample('hello')])[0].categories['unsafe'] <= 1)"
    )
    assert _run(code).strip() == "True"


def test_importing_the_package_loads_no_model_runtime() -> None:
    code = (
        "import sys, guardrail, guardrail.classifier, guardrail.check\n"
        "heavy = ('onnxruntime', 'torch', 'transformers', 'aiohttp', 'optimum')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    assert _run(code).strip() == "[]"


@pytest.mark.parametrize(
    "module",
    sorted(
        ".".join(["guardrail", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(
            ".__init__"
        )
        for path in FILES
        if path.name != "__main__.py" and room_of(path) != "train"
    ),
)
def test_all_is_sorted_and_can_be_imported(module: str) -> None:
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        if "pip install 'guardrail[" not in str(error):
            raise
        pytest.skip(str(error))
    names = getattr(loaded, "__all__", [])
    assert len(set(names)) == len(names)
    assert all(hasattr(loaded, name) for name in names)
    # The linter's order: constants, then classes, then functions.
    kinds = [(0 if n.isupper() else 1 if n[0].isupper() else 2, n) for n in names]
    assert kinds == sorted(kinds)
