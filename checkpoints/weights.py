"""Weight files without a framework: is a checkpoint whole, and which one is it?

A safetensors file is an 8-byte length, a JSON header (name → dtype, shape, byte range), then the
bytes; so a truncated file shows by its size alone, and a fingerprint needs no torch:

    fingerprint = blake2b over the sorted (name, dtype, shape, blake2b(bytes)) of every tensor

It does not depend on how tensors are spread over shards.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from babelscope.core.errors import InputError
from babelscope.core.files import digest, read_json, write_json

_BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16}
_BITS |= {"U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8}


class BrokenWeightsError(ValueError):
    """A checkpoint's weight files cannot be read; the message says which and why."""


@dataclass(frozen=True)
class Tensor:
    """Where one tensor lies."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the single one, or those its index names.

    Raises
    ------
    BrokenWeightsError
        If there are none, or if the index names a missing one.
    """
    index = directory / "model.safetensors.index.json"
    if index.exists():
        try:
            named = sorted(set(read_json(index)["weight_map"].values()))
        except (InputError, KeyError, TypeError) as error:
            raise BrokenWeightsError(f"{index.name} is not a weight index: {error}") from None
        missing = [name for name in named if not (directory / name).exists()]
        if missing:
            raise BrokenWeightsError(f"{index.name} names {', '.join(missing)}, which is missing")
        return [directory / name for name in named]
    single = directory / "model.safetensors"
    if not single.exists():
        raise BrokenWeightsError("has no model.safetensors")
    return [single]


def tensors(directory: Path) -> Iterator[Tensor]:
    """Every tensor of a checkpoint, from the headers alone.

    Raises
    ------
    BrokenWeightsError
        If a file is truncated or its header makes no sense.
    """
    for file in weight_files(directory):
        size = file.stat().st_size
        with open(file, "rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if size < 8 or length > size - 8:
                raise BrokenWeightsError(
                    f"{file.name} is truncated: {size} bytes, shorter than its own header"
                )
            try:
                header = json.loads(handle.read(length))
                parts = [
                    Tensor(file, name, part["dtype"], tuple(part["shape"]), *part["data_offsets"])
                    for name, part in header.items()
                    if name != "__metadata__"
                ]
            except (ValueError, KeyError, TypeError) as error:
                raise BrokenWeightsError(f"{file.name} has a corrupt header: {error}") from None
        data = size - 8 - length
        for part in parts:
            wanted = math.prod(part.shape) * _BITS.get(part.dtype, 0) // 8
            if part.stop > data:
                raise BrokenWeightsError(
                    f"{file.name} is truncated: {part.name} ends {part.stop - data} bytes past its end"
                )
            if wanted and wanted != part.stop - part.start:
                raise BrokenWeightsError(
                    f"{file.name} has a corrupt header: {part.name} has not {wanted} bytes"
                )
            yield Tensor(
                part.file, part.name, part.dtype, part.shape, 8 + length + part.start, 8 + length + part.stop
            )


def fingerprint(directory: Path) -> str:
    """What these weights are, whatever their files are called."""
    parts = []
    for tensor in tensors(directory):
        content = hashlib.blake2b(digest_size=16)
        with open(tensor.file, "rb") as handle:
            handle.seek(tensor.start)
            left = tensor.stop - tensor.start
            while left:
                chunk = handle.read(min(left, 1 << 20))
                content.update(chunk)
                left -= len(chunk)
        parts.append([tensor.name, tensor.dtype, tensor.shape, content.hexdigest()])
    return digest(sorted(parts))


class Fingerprints:
    """Fingerprints cached by (path, size, mtime, inode) of the weight files.

    Parameters
    ----------
    cache
        JSON file; written after each new fingerprint, so that hashing is never repeated.
    """

    def __init__(self, cache: Path):
        self._cache = cache
        self._known: dict[str, str] = read_json(cache) if cache.exists() else {}

    def of(self, directory: Path) -> str:
        """The fingerprint of a checkpoint; `BrokenWeightsError` as for `tensors`."""
        stats = [(file.name, file.stat()) for file in weight_files(directory)]
        key = digest([str(directory), [(n, s.st_size, s.st_mtime_ns, s.st_ino) for n, s in stats]])
        if key not in self._known:
            self._known[key] = fingerprint(directory)
            write_json(self._cache, self._known)
        return self._known[key]
