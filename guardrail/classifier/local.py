"""Loads language models from this machine and runs them: torch, GGUF and ONNX.

Together with `guardrail.classifier.promptable` the only serving-side importer of torch,
transformers and optimum.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.errors import BundleError, SettingsError

__all__ = ["Dtype", "Loaded", "load", "load_sequence"]

INSTALL = "pip install 'guardrail[guards]'"
EDGE_BYTES = 1 << 20
"""Bytes at either end of a big file that its identity rests on, beside its size."""


class Dtype(StrEnum):
    """Number format of the weights."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"

    @classmethod
    def of(cls, name: str) -> Dtype:
        """Return the format of a name.

        Raises:
            SettingsError: There is none.
        """
        try:
            return cls(name)
        except ValueError as error:
            known = ", ".join(cls)
            raise SettingsError(f"dtype {name[:40]!r} is unknown; known are {known}") from error


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory.

    Args:
        where: What the operator called it, for errors.
        model_id: Name, content hash and number format.
        model: The model.
        tokenizer: Its tokenizer.
        torch: The module.
        device: Where it runs.
        context_tokens: Longest sequence that it takes.
        onnx: Whether ONNX Runtime runs it.
        markers: Strings that are special tokens.
    """

    where: str
    model_id: str
    model: Any
    tokenizer: Any
    torch: Any
    device: Any
    context_tokens: int
    onnx: bool = False
    markers: tuple[str, ...] = field(default=(), repr=False)

    def begin(self, ids: Sequence[int]) -> Any:
        """Run the common beginning of several rows; returns its keys and values."""
        with self.torch.inference_mode():
            tokens = self._tensor([ids])
            return self._forward(tokens, self.torch.ones_like(tokens)).past_key_values

    def last(self, rows: Sequence[Sequence[int]], past: Any, before: int) -> NDArray[np.float32]:
        """Run rows and return what each may go on with.

        Args:
            rows: Tokens of each row, at least one.
            past: Keys and values of their common beginning, used up by this; or None.
            before: Tokens of that beginning.

        Returns:
            float32 (rows, vocabulary), log-probabilities of the next token.
        """
        longest = max(len(row) for row in rows)
        # Padding stands before the tokens, so that the last column is the last token of each.
        ids = self._tensor([[0] * (longest - len(row)) + list(row) for row in rows])
        own = self._tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        mask = self.torch.cat([self._tensor([[1] * before] * len(rows)), own], dim=1)
        positions = before + (own.cumsum(dim=1) - 1).clamp(min=0)
        with self.torch.inference_mode():
            cache = None if past is None else _repeated(past, len(rows))
            logits = self._forward(ids, mask, positions, cache).logits[:, -1, :]
            found: NDArray[np.float32] = logits.float().log_softmax(dim=-1).cpu().numpy()
        return found

    def _tensor(self, rows: Sequence[Sequence[int]]) -> Any:
        return self.torch.tensor(rows, dtype=self.torch.long, device=self.device).reshape(
            len(rows), -1
        )

    def _forward(self, ids: Any, mask: Any, positions: Any = None, cache: Any = None) -> Any:
        extra: dict[str, Any] = {} if self.onnx else {"logits_to_keep": 1, "use_cache": True}
        if positions is not None:
            extra["position_ids"] = positions
        if cache is not None:
            extra["past_key_values"] = cache
        return self.model(input_ids=ids, attention_mask=mask, **extra)


def _repeated(past: Any, rows: int) -> Any:
    if isinstance(past, tuple):  # ONNX Runtime's: a pair of tensors for each layer
        return tuple(tuple(part.repeat_interleave(rows, dim=0) for part in pair) for pair in past)
    past.batch_repeat_interleave(rows)
    return past


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence progress bars and advice of the libraries: a server's log is not theirs."""
    from transformers.utils import logging

    bar, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # GGUF's own bar
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _modules() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise BundleError(f"a local language model needs more packages: {INSTALL}") from error
    return torch, transformers


def _device(torch: Any, device: str) -> Any:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise SettingsError(f"device {device!r}: torch knows none of that name") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise SettingsError(f"device {device!r}: torch finds no CUDA here; use cpu or auto")
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a model's files are: a folder, and of a GGUF file its name."""

    where: str
    folder: Path
    gguf: str | None = None

    @property
    def kwargs(self) -> dict[str, Any]:
        """What transformers has to be told besides the folder."""
        extra = {"gguf_file": self.gguf} if self.gguf else {}
        return {"local_files_only": True, "trust_remote_code": False, **extra}


def _find(where: str, need: str = "config.json") -> _Place:
    path = Path(where).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise BundleError(f"{where}: no such file; name a GGUF file")
        return _Place(where, path.parent, path.name)
    if path.is_dir():
        if not (path / need).is_file():
            raise BundleError(f"{path / need}: missing, so this is no model folder; name one")
        return _Place(where, path)
    return _Place(where, _cached(where, need))


def _cached(where: str, need: str) -> Path:
    """Return the folder of a model in the Hugging Face cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(where, need)
    except HFValidationError:
        found = None
    if not isinstance(found, str):
        raise BundleError(
            f"{where}: neither a folder, a .gguf file nor a model in the Hugging Face cache; "
            f"nothing is fetched on its own: `hf download {where}` does it, or name a path"
        )
    return Path(found).parent


def load(where: str, dtype: Dtype, device: str, model_types: Sequence[str] = ()) -> Loaded:
    """Load a causal language model; see `LocalModel.load`."""
    torch, transformers = _modules()
    place, at = _find(where), _device(torch, device)
    onnx = place.gguf is None and any(place.folder.glob("**/*.onnx"))
    with _quiet():
        config = _config(transformers, place)
        _check_causal(place, config, model_types)
        tokenizer = _tokenizer(transformers, place)
        if onnx:
            model, kind = _onnx(place, dtype), "onnx"
        else:
            named = (config.architectures or [""])[0]
            made_by = getattr(transformers, named, None) or transformers.AutoModelForCausalLM
            model, kind = _torch_model(torch, made_by, place, dtype, at)
    return Loaded(
        where, _identity(place, kind), model, tokenizer, torch, at if not onnx else "cpu",
        _context(config), onnx, _markers(tokenizer),
    )  # fmt: skip


def load_sequence(where: str, device: str, model_types: Sequence[str]) -> Loaded:
    """Load a sequence classifier (an encoder with one logit for each label).

    Args:
        where: A folder or the id of a model in the cache.
        device: As for `LocalModel.load`.
        model_types: Architectures to insist on.

    Returns:
        The model; ``model.config.num_labels`` says how many labels it has.

    Raises:
        BundleError: See `LocalModel.load`.
        SettingsError: The device cannot be used here.
    """
    torch, transformers = _modules()
    place, at = _find(where), _device(torch, device)
    with _quiet():
        config = _config(transformers, place)
        _check_type(place, config, model_types)
        named = config.architectures or ["?"]
        if not named[0].endswith("ForSequenceClassification"):
            raise BundleError(f"{where}: is a {named[0]}, not a sequence classifier; name another")
        tokenizer = _tokenizer(transformers, place)
        kind = transformers.AutoModelForSequenceClassification
        model = _weights(kind, place, torch.float32).to(at)
    return Loaded(where, _identity(place, "fp32"), model, tokenizer, torch, at, _context(config))


def _config(transformers: Any, place: _Place) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(place.folder, **place.kwargs)
    except ImportError as error:
        raise BundleError(f"{place.where}: needs more packages: {INSTALL} ({error})") from error
    except Exception as error:  # what it reads is not ours, and its errors share no base class
        raise BundleError(
            f"{place.where}: its config.json cannot be used ({_short(error)}); fetch it anew"
        ) from error


def _check_type(place: _Place, config: Any, model_types: Sequence[str]) -> None:
    if model_types and config.model_type not in model_types:
        raise BundleError(
            f"{place.where}: its architecture is {config.model_type!r}, this guard is "
            f"{' or '.join(model_types)}; name the guard's own model"
        )


def _check_causal(place: _Place, config: Any, model_types: Sequence[str]) -> None:
    _check_type(place, config, model_types)
    named = (config.architectures or [""])[0]
    speaks = named.endswith(("ForCausalLM", "ForConditionalGeneration"))
    if named and (not speaks or getattr(config, "is_encoder_decoder", False)):
        raise BundleError(
            f"{place.where}: is a {named}, which does not continue text; "
            "name a causal language model"
        )


def _tokenizer(transformers: Any, place: _Place) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(place.folder, **place.kwargs)
    except Exception as error:  # as above
        raise BundleError(
            f"{place.where}: its tokenizer cannot be loaded ({_short(error)}); fetch it anew"
        ) from error


def _torch_model(
    torch: Any, made_by: Any, place: _Place, dtype: Dtype, device: Any
) -> tuple[Any, str]:
    if dtype is Dtype.AUTO:
        dtype = Dtype.BF16 if device.type == "cuda" else Dtype.FP32
    if dtype is Dtype.INT8 and device.type != "cpu":
        raise SettingsError("dtype int8 runs on a CPU; use bf16 on CUDA")
    model = _weights(made_by, place, torch.bfloat16 if dtype is Dtype.BF16 else torch.float32)
    if dtype is Dtype.INT8:
        model = _int8(torch, model)
    return model.to(device), dtype.value


def _weights(kind: Any, place: _Place, dtype: Any) -> Any:
    try:
        return kind.from_pretrained(place.folder, dtype=dtype, **place.kwargs).eval()
    except Exception as error:  # as above, and safetensors has its own
        raise BundleError(
            f"{place.where}: its weights cannot be loaded ({_short(error)}); fetch it anew"
        ) from error


def _int8(torch: Any, model: Any) -> Any:
    """Quantise linear layers, a scale for each row; the last one decides and stays as it is."""
    try:
        from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic
    except ImportError as error:
        raise SettingsError(
            "dtype int8: this torch cannot quantise; use bf16, or an ONNX export"
        ) from error
    last = model.get_output_embeddings()
    chosen = {
        name: per_channel_dynamic_qconfig
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and part is not last
    }
    return quantize_dynamic(model, chosen, dtype=torch.qint8)


def _onnx(place: _Place, dtype: Dtype) -> Any:
    if dtype is not Dtype.AUTO:
        raise SettingsError(
            f"{place.where}: an ONNX export has the number format it was exported in; leave out "
            "the dtype"
        )
    try:
        from optimum.onnxruntime import ORTModelForCausalLM
    except ImportError as error:
        raise BundleError(f"{place.where}: an ONNX model needs more packages: {INSTALL}") from error
    try:
        return ORTModelForCausalLM.from_pretrained(place.folder, local_files_only=True)
    except Exception as error:  # optimum and onnxruntime share no base class of errors
        raise BundleError(f"{place.where}: cannot be loaded ({_short(error)})") from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _context(config: Any) -> int:
    """Return the longest sequence, within which every token sees all before it."""
    text = config.get_text_config()
    names = ("max_position_embeddings", "sliding_window", "attention_chunk_size")
    limits = [getattr(text, name, None) for name in names]
    return min([int(n) for n in limits if n], default=4096)


def _markers(tokenizer: Any) -> tuple[str, ...]:
    added = (token.content for token in tokenizer.added_tokens_decoder.values())
    return tuple(sorted({*added, *tokenizer.all_special_tokens}))


def _identity(place: _Place, kind: str) -> str:
    """Return name, hash and number format; of big files the ends and the size are hashed."""
    suffixes = (".json", ".safetensors", ".bin", ".onnx", ".onnx_data", ".model", ".jinja")
    if place.gguf:
        files = [place.folder / place.gguf]
    else:
        files = sorted(p for p in place.folder.rglob("*") if p.suffix in suffixes and p.is_file())
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.relative_to(place.folder)}:{size}\n".encode())
        with path.open("rb") as data:
            digest.update(data.read(EDGE_BYTES))
            if size > EDGE_BYTES:
                data.seek(max(EDGE_BYTES, size - EDGE_BYTES))
                digest.update(data.read(EDGE_BYTES))
    name = Path(place.where).name.removesuffix(".gguf")
    return f"{name}@{digest.hexdigest()[:12]}-{kind}"
