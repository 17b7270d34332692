"""Long runs over JSONL files: reads lines, writes lines, and goes on where it stopped.

An output file has one line for each input line, in order, and both carry an ``id``.
"""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from guardrail.errors import DataError

__all__ = ["HasId", "open_output", "read_jsonl", "skip_done"]


class HasId(Protocol):
    """An input line that says who it is."""

    @property
    def id(self) -> str | int:
        """Its id, as given."""
        ...


Line = TypeVar("Line", bound=HasId)


def read_jsonl(
    path: Path,
    parse: Callable[[bytes], Line],
    wanted: str,
    *,
    on_bad: Callable[[int], None] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Line]:
    """Read lines, plain or gzipped; empty ones are passed over.

    Args:
        path: The file.
        parse: Makes an item of a line; raises ValueError where it is none.
        wanted: What a line must be, for errors.
        on_bad: Called with the number of a line that cannot be read, which is then skipped;
            None to raise instead.
        on_bytes: Called with the number of bytes by which the file was read on.

    Yields:
        The items in file order.

    Raises:
        DataError: The file cannot be read, or a line is wrong; names file, line and fix.
    """
    try:
        with path.open("rb") as raw:
            lines: IO[bytes] = raw
            if path.suffix == ".gz":
                lines = gzip.GzipFile(fileobj=raw)  # type: ignore[assignment]
            at = 0
            for number, line in enumerate(lines, 1):
                if on_bytes is not None and (now := raw.tell()) > at:
                    on_bytes(now - at)
                    at = now
                if not line.strip():
                    continue
                try:
                    item = parse(line)
                except (ValueError, RecursionError) as error:
                    if on_bad is None:
                        reason = f"{path}:{number}: {error}; {wanted}, or pass --skip-bad"
                        raise DataError(reason) from error
                    on_bad(number)
                    continue
                yield item
    except (OSError, EOFError) as error:
        cause = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {cause}; name a readable JSONL file") from error


_BEGIN = b'{"id": '
"""How every output line begins: a last line that a killed run left without its newline, too."""


def skip_done(out: IO[bytes], items: Iterator[Line], place: Path, model: str | None = None) -> int:
    """Pass over the input lines that an output file already has, and stand at its end.

    Args:
        out: An output file that `open_output` opened.
        items: The input lines.
        place: The output file's name, for errors.
        model: Whose lines they must be; None where lines do not say.

    Returns:
        How many lines it has.

    Raises:
        DataError: They are another file's, or another model's.
    """
    done = end = 0
    for number, line in enumerate(out, 1):
        if not line.endswith(b"\n") and line.startswith(_BEGIN[: len(line)]):
            out.truncate(end)
            break
        end += len(line)
        item = next(items, None)
        try:
            found = json.loads(line)
            written, maker = found["id"], found.get("model")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{place}:{number}: not an output line; pass --restart") from error
        if model is not None and maker != model:
            raise DataError(
                f"{place}:{number}: written by {maker or 'an earlier release'}, and this is "
                f"{model}; pass --restart to overwrite it or name another --out"
            )
        if item is None or item.id != written:
            wanted = "the input has no such line" if item is None else f"the input has {item.id!r}"
            raise DataError(
                f"{place}:{number}: id is {written!r}, {wanted}: another file's scores; "
                "pass --restart to overwrite them or name another --out"
            )
        done += 1
    out.seek(0, io.SEEK_END)
    return done


def open_output(out: Path, data: Path, *, restart: bool) -> IO[bytes]:
    """Open an output file to go on, or to begin anew.

    Args:
        out: The file.
        data: The input, which it must not be.
        restart: Whether to overwrite what it holds.

    Returns:
        The file, for reading and writing, at its beginning.

    Raises:
        DataError: It cannot be written.
    """
    if out.exists() and data.exists() and out.samefile(data):
        raise DataError(f"{out}: is the input; name another --out")
    flags: Any = os.O_RDWR | os.O_CREAT | (os.O_TRUNC if restart else 0)
    try:
        return os.fdopen(os.open(out, flags, 0o644), "r+b")
    except OSError as error:
        raise DataError(f"{out}: {error.strerror}; name a writable --out") from error
