"""The model folder as a type: what is in it, that nothing was changed, and who it is.

A bundle is a folder with ``manifest.json``, which names every other file with its SHA-256, the
model's outputs by name and the provenance of its training. Nothing here runs a model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrail.classifier.calibration import Calibration
from guardrail.errors import BundleError

__all__ = ["CALIBRATION", "EMBEDDED", "FORMAT", "MANIFEST", "MODEL", "TOKENIZER", "Bundle", "seal"]

FORMAT = 1
EMBEDDED = Path(__file__).parent / "bundle_data"
"""The bundle that ships inside the package."""

MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
CALIBRATION = "calibration.json"
_REQUIRED = (MODEL, TOKENIZER, CALIBRATION)
_FETCH = "reinstall guardrail, fetch the bundle anew, or name another with --bundle"


def _digest(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified model folder.

    Args:
        folder: Where it is.
        name: Name of the model.
        version: Its version.
        outputs: Names of the model's outputs, in the order of its logits.
        max_tokens: Longest sequence it should be run on.
        overlap_tokens: Tokens that neighbouring windows of a long text share.
        model_id: Name and the first 12 hex digits of the manifest's SHA-256.
        calibration: How its logits become probabilities.
        manifest: The whole manifest, provenance included.
    """

    folder: Path
    name: str
    version: str
    outputs: tuple[str, ...]
    max_tokens: int
    overlap_tokens: int
    model_id: str
    calibration: Calibration
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path | str | None = None) -> Bundle:
        """Open a bundle and verify the hash of every file that its manifest names.

        Args:
            path: The folder; None for the embedded one.

        Returns:
            The bundle.

        Raises:
            BundleError: A file is missing, was changed, or is of another format; the message
                names it and the fix.
        """
        folder = EMBEDDED if path is None else Path(path)
        raw = _bytes(folder / MANIFEST)
        manifest = _object(raw, folder / MANIFEST)
        if manifest.get("format") != FORMAT:
            found = manifest.get("format")
            raise BundleError(
                f"{folder / MANIFEST}: format is {found!r}, this release reads {FORMAT}; {_FETCH}"
            )
        _verify(folder, manifest)
        try:
            outputs = tuple(str(name) for name in manifest["outputs"])
            name, version = str(manifest["name"]), str(manifest["version"])
            max_tokens = int(manifest["max_tokens"])
            overlap_tokens = int(manifest["overlap_tokens"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"{folder / MANIFEST}: field {error} is missing or of the wrong type; {_FETCH}"
            ) from error
        place = folder / CALIBRATION
        calibration = Calibration.from_json(_object(_bytes(place), place), outputs, str(place))
        identity = f"{name}@{hashlib.sha256(raw).hexdigest()[:12]}"
        return cls(
            folder, name, version, outputs, max_tokens, overlap_tokens, identity, calibration,
            manifest,
        )  # fmt: skip

    @property
    def model_path(self) -> Path:
        """The ONNX graph."""
        return self.folder / MODEL

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer, in the format of the ``tokenizers`` library."""
        return self.folder / TOKENIZER


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}; {_FETCH}") from error


def _object(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not JSON ({error}); {_FETCH}") from error
    if not isinstance(parsed, dict):
        raise BundleError(f"{path}: not a JSON object; {_FETCH}")
    return parsed


def _verify(folder: Path, manifest: Mapping[str, Any]) -> None:
    files = manifest.get("files")
    if not isinstance(files, dict) or not set(_REQUIRED) <= set(files):
        wanted = ", ".join(_REQUIRED)
        raise BundleError(f"{folder / MANIFEST}: files must name {wanted}; {_FETCH}")
    for name, expected in files.items():
        path = folder / name
        if Path(name).name != name:
            raise BundleError(f"{folder / MANIFEST}: file name {name!r} leaves the folder")
        try:
            found = _digest(path)
        except OSError as error:
            raise BundleError(f"{path}: {error.strerror or error}; {_FETCH}") from error
        if found != expected:
            raise BundleError(
                f"{path}: its SHA-256 is {found[:12]}…, the manifest says "
                f"{str(expected)[:12]}…: damaged or changed; {_FETCH}"
            )


def seal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write a folder's manifest, with the hash of every other file in it.

    Args:
        folder: A folder that holds the model, its tokenizer and its calibration.
        manifest: All other fields.
    """
    files = {
        path.name: _digest(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }
    text = json.dumps({"format": FORMAT, **manifest, "files": files}, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
