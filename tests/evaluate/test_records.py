"""Records of every kind of file, and files that are none."""

from __future__ import annotations

import gzip
import json

import pytest

from guardrail.errors import DataError
from guardrail.evaluate.records import read_records


def test_every_kind_gives_the_same_records(tmp_path) -> None:
    wanted = [{"a": "1", "b": "x,\ny"}, {"a": "2", "b": "ü"}]
    files = {
        "f.jsonl": "\n".join(json.dumps(r) for r in wanted) + "\n\n",
        "f.ndjson": "\n".join(json.dumps(r) for r in wanted),
        "f.json": json.dumps(wanted),
        "f.csv": '\ufeffa,b\n1,"x,\ny"\n2,ü\n',
        "f.tsv": 'a\tb\n1\t"x,\ny"\n2\tü\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        with gzip.open(tmp_path / f"{name}.gz", "wt", encoding="utf-8") as packed:
            packed.write(text)
        for path in (tmp_path / name, tmp_path / f"{name}.gz"):
            assert [dict(r) for _, r in read_records(path)] == wanted, path


def test_parquet_is_read_where_pyarrow_is_installed(tmp_path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"a": [1, 2]}), tmp_path / "f.parquet")
    assert list(read_records(tmp_path / "f.parquet")) == [(1, {"a": 1}), (2, {"a": 2})]
    (tmp_path / "g.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match=r"g\.parquet: not Parquet"):
        list(read_records(tmp_path / "g.parquet"))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("f.jsonl", b"{}\nno\n", r"f\.jsonl:2: not JSON"),
        ("f.jsonl", b"[1]\n", r"f\.jsonl:1: not an object"),
        ("f.jsonl", b'{"a": "\xff"}\n', "not JSON"),
        ("f.json", b"{}", "not a JSON array"),
        ("f.json", b"[1]", "element 1: not an object"),
        ("f.json", b"[" * 100_000, "not JSON"),
        ("f.csv", b"a,b\n1\n", r"f\.csv:2: not as many fields"),
        ("f.csv", b"a,b\n1,2,3\n", "not as many fields"),
        ("f.csv", b"a,b\n\xff,2\n", "in UTF-8"),
        ("f.jsonl.gz", b"no gzip", "readable file"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, data, words) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=words):
        list(read_records(tmp_path / name))


def test_a_missing_file_is_named(tmp_path) -> None:
    for name in ("f.csv", "f.parquet", "f.jsonl"):
        with pytest.raises(DataError, match="f\\."):
            list(read_records(tmp_path / name))
