"""A store in each kind of database: SQLite always, a real PostgreSQL where one is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from guardrail.audit import AuditSettings, Decision, Origin
from guardrail.policy import parse_policy
from guardrail.types import Action, Direction, Finding, Role, Scores, Verdict

POLICY = parse_policy("version: 1\nname: t\ncategories: {unsafe: {flag: 0.5, block: 0.9}}")


def decision(number: int = 1, request: str = "r", **changes: object) -> Decision:
    """A decision that blocks, or what ``changes`` make of it."""
    found = Finding("unsafe", Action.BLOCK, 0.95, 0.9)
    verdict = Verdict(
        Action.BLOCK, Direction.INPUT, (found,), Scores({"unsafe": 0.95}, "m@1"), "t@0"
    )
    made = {
        "number": number,
        "time": 1_000_000.0 + number,
        "origin": Origin(request, "proxy", "/v1/chat/completions", "openai.chat", "gpt"),
        "policy": POLICY,
        "direction": Direction.INPUT,
        "channel": "text[0.0]",
        "role": Role.USER,
        "verdict": verdict,
        **changes,
    }
    return Decision(**made)  # type: ignore[arg-type]


def find_postgres() -> Path | None:
    found = shutil.which("postgres")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if (p / "postgres").exists()), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a real PostgreSQL server, started once, as a user other than root."""
    pytest.importorskip("psycopg")
    binaries = find_postgres()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed")
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    try:
        owner = pwd.getpwnam(user)
    except KeyError:
        pytest.skip("root cannot run PostgreSQL, and there is no user called postgres")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    as_user = {"user": owner.pw_uid, "group": owner.pw_gid} if os.getuid() == 0 else {}
    os.chown(folder, owner.pw_uid, owner.pw_gid)

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=60, **as_user)  # type: ignore[call-overload]

    data = folder / "data"
    run(str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "audit", "--no-sync",
        "-E", "UTF8", "--locale=C")  # fmt: skip
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    run(str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"),
        "-o", options, "start")  # fmt: skip
    try:
        yield f"postgresql://audit@/postgres?host={folder}"
    finally:
        run(str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> AuditSettings:
    """Settings of an empty audit, in each kind of database."""
    if request.param == "sqlite":
        return AuditSettings(f"sqlite:{tmp_path / 'audit.sqlite3'}", days=0, flush_s=0.02)
    url = request.getfixturevalue("postgres")
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return AuditSettings(url, days=0, flush_s=0.02)
