"""From disk straight into the tensors of a model, and whether what came is finite.

A plain read into the tensor's own memory copies once, out of the page cache; a memory map costs a fault per
page besides. Each piece is summed while it is still in the processor's cache, since what is not finite stays so
in a sum: looking at the weights a second time would cost a third of reading them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

import torch

from babelscope.checkpoints.weights import BrokenWeightsError, Tensor, dtype_name, tensors
from babelscope.core.errors import InputError

PIECE = 1 << 18  # entries: 1 MiB of float32

_KNOWN = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8)
_KNOWN += (torch.int16, torch.int32, torch.int64, torch.float8_e4m3fn, torch.float8_e5m2)
DTYPES = {dtype_name(dtype): dtype for dtype in _KNOWN}


def read_weights(directory: Path, mapping: Mapping[str, str], into: Mapping[str, torch.Tensor]) -> None:
    """Fill `into[mapping[name]]` from each tensor `name` on disk, cast to what is there.

    Raises
    ------
    BrokenWeightsError
        As for `tensors`, or if a file shrinks meanwhile.
    InputError
        If a weight is not finite.
    """
    sums = []
    for file, parts in groupby(tensors(directory), key=attrgetter("file")):
        with open(file, "rb", buffering=0) as handle:
            for part in parts:
                if part.name in mapping:
                    pieces = _fill(into[mapping[part.name]], part, handle)
                    sums += [piece.sum(dtype=torch.float32) for piece in pieces]
    if not torch.stack(sums).isfinite().all():
        refuse_non_finite({entry: into[entry] for entry in mapping.values()}, what=directory.name)


def read_tensor(tensor: Tensor) -> torch.Tensor:
    """One tensor, as it is on disk."""
    value = torch.empty(tensor.shape, dtype=DTYPES[tensor.dtype])
    with open(tensor.file, "rb", buffering=0) as handle:
        for _ in _fill(value, tensor, handle):
            pass
    return value


def refuse_non_finite(state: Mapping[str, torch.Tensor], *, what: str) -> None:
    """Name the tensors with entries that are not finite, in an `InputError`."""
    broken = [
        name
        for name, value in state.items()  # sums are quick, but may also overflow
        if not (value.sum(dtype=torch.float32).isfinite() or value.isfinite().all())
    ]
    if broken:
        raise InputError(f"{what} has non-finite weights: {', '.join(broken[:3])}")


def _fill(target: torch.Tensor, tensor: Tensor, handle: BinaryIO) -> Iterator[torch.Tensor]:
    """Write `tensor` into `target` piece by piece, yielding each as it is written."""
    pieces = target.view(-1).split(PIECE)
    if tensor.start is None:
        for piece, value in zip(pieces, tensor.values.reshape(-1).split(PIECE), strict=True):
            yield piece.copy_(value)
        return
    handle.seek(tensor.start)
    dtype = DTYPES[tensor.dtype]
    direct = target.device.type == "cpu" and target.dtype == dtype
    between = torch.empty(0 if direct else len(pieces[0]), dtype=dtype)
    for piece in pieces:
        read = piece if direct else between[: len(piece)]
        raw = read.view(torch.uint8).numpy()
        if handle.readinto(raw.data) < len(raw):
            raise BrokenWeightsError(f"{tensor.file.name} is being written: {tensor.name} came out short")
        yield read if direct else piece.copy_(read)
