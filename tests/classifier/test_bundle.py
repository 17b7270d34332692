"""A bundle is opened only if it is whole, unchanged and of this format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guardrail.classifier.bundle import CALIBRATION, MANIFEST, MODEL, TOKENIZER, Bundle, seal
from guardrail.classifier.calibration import Calibration
from guardrail.errors import BundleError
from guardrail.taxonomy import KEYS

FIELDS = {
    "name": "tiny",
    "version": "1",
    "outputs": ["unsafe", "hate"],
    "max_tokens": 32,
    "overlap_tokens": 4,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / MODEL).write_bytes(b"graph")
    (tmp_path / TOKENIZER).write_text("{}")
    calibration = Calibration.identity(FIELDS["outputs"])  # type: ignore[arg-type]
    (tmp_path / CALIBRATION).write_text(json.dumps(calibration.as_json()))
    seal(tmp_path, FIELDS)
    return tmp_path


def test_a_sealed_folder_opens_with_its_fields(folder: Path) -> None:
    bundle = Bundle.open(folder)
    assert (bundle.name, bundle.version, bundle.max_tokens) == ("tiny", "1", 32)
    assert bundle.outputs == ("unsafe", "hate")


def test_the_identity_is_the_name_and_a_hash_that_follows_the_content(folder: Path) -> None:
    before = Bundle.open(folder).model_id
    assert before.startswith("tiny@")
    assert len(before) == len("tiny@") + 12
    (folder / MODEL).write_bytes(b"another graph")
    seal(folder, FIELDS)
    assert Bundle.open(folder).model_id != before


@pytest.mark.parametrize("name", [MODEL, TOKENIZER, CALIBRATION])
def test_a_changed_file_is_named(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match=rf"{name}.*SHA-256.*--bundle"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", [MODEL, TOKENIZER, CALIBRATION, MANIFEST])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}.*No such file"):
        Bundle.open(folder)


def test_a_manifest_of_another_format_is_refused(folder: Path) -> None:
    raw = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**raw, "format": 99}))
    with pytest.raises(BundleError, match="format is 99, this release reads 1"):
        Bundle.open(folder)


@pytest.mark.parametrize("field", ["outputs", "name", "max_tokens", "overlap_tokens"])
def test_a_missing_field_is_named(folder: Path, field: str) -> None:
    raw = json.loads((folder / MANIFEST).read_text())
    del raw[field]
    (folder / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=field):
        Bundle.open(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_manifest_that_is_no_object_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=MANIFEST):
        Bundle.open(folder)


def test_a_file_name_cannot_leave_the_folder(folder: Path) -> None:
    raw = json.loads((folder / MANIFEST).read_text())
    raw["files"]["../escape"] = "0" * 64
    (folder / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="leaves the folder"):
        Bundle.open(folder)


def test_the_embedded_bundle_is_whole_small_and_knows_every_category() -> None:
    bundle = Bundle.open()
    assert bundle.outputs == ("unsafe", *KEYS)
    size = sum(path.stat().st_size for path in bundle.folder.iterdir())
    assert size <= 25_000_000
    assert bundle.manifest["training"]["sources"]
