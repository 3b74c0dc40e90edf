"""Weight files: which there are, whether they are whole, and what is in them.

A checkpoint's weights are, in this order, `model.safetensors`, the shards that
`model.safetensors.index.json` names, `pytorch_model.bin`, or the shards of `pytorch_model.bin.index.json`;
or those of a PEFT adapter, which needs its base. A safetensors file is an 8-byte length, a JSON header
(name → dtype, shape, byte range), then the bytes: a truncated file shows by its size alone, without torch.
A `.bin` file is a pickle, of which nothing but plain tensors is ever read.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError  # what torch's reader raises; nothing is unpickled here
from typing import TYPE_CHECKING, Any

from babelscope.core.errors import InputError
from babelscope.core.files import read_json

if TYPE_CHECKING:
    import torch

LAYOUTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
ADAPTER, ADAPTER_SETTINGS = "adapter_model.safetensors", "adapter_config.json"

# Bits of each dtype that safetensors knows, by its name there.
_BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16}
_BITS |= {"U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8}


class BrokenWeightsError(ValueError):
    """A checkpoint's weight files cannot be read; the message says which and why."""


@dataclass(frozen=True)
class Tensor:
    """Where one tensor lies.

    Attributes
    ----------
    dtype
        As safetensors writes it: `F32`, `BF16`, …
    start, stop
        Its bytes in a safetensors file; None in a `.bin` file.
    values
        The tensor itself, still on disk (memory-mapped), in a `.bin` file; None in safetensors.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int | None = None
    stop: int | None = None
    values: Any = field(default=None, compare=False, repr=False)


def is_adapter(directory: Path) -> bool:
    """Whether the folder holds a PEFT adapter, which is nothing without its base."""
    return (directory / ADAPTER_SETTINGS).exists()


def model_folder(directory: Path) -> Path:
    """Where the whole model and its `config.json` are: the checkpoint itself, or an adapter's base.

    A base is looked for beside the adapter, then as a path, then in the Hugging Face cache.

    Raises
    ------
    BrokenWeightsError
        If an adapter's base is in none of these.
    """
    if not is_adapter(directory):
        return directory
    settings = _settings(directory)
    base = settings.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise BrokenWeightsError(f"{ADAPTER_SETTINGS} names no base_model_name_or_path")
    for folder in (directory / base, Path(base).expanduser()):
        if folder.is_dir() and not is_adapter(folder):
            return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(base, revision=settings.get("revision"), local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        raise BrokenWeightsError(
            f"its base {base!r} is neither a folder with a whole model nor in the Hugging Face cache; "
            f"set base_model_name_or_path in {ADAPTER_SETTINGS}, or fetch it with `hf download {base}`"
        ) from None


def adapter_settings(directory: Path) -> dict[str, Any]:
    """What `adapter_config.json` says about an adapter's tensors: all but where the base lies."""
    return {k: v for k, v in _settings(directory).items() if k != "base_model_name_or_path"}


def weight_files(directory: Path) -> list[Path]:
    """Every file that loading a checkpoint reads weights from; an adapter's own comes last.

    Raises
    ------
    BrokenWeightsError
        If there are none, or if an index names a missing one.
    """
    if is_adapter(directory):
        own = directory / ADAPTER
        if not own.exists():
            raise BrokenWeightsError(f"has {ADAPTER_SETTINGS} but no {ADAPTER}")
        return [*weight_files(model_folder(directory)), own]
    for name in LAYOUTS:
        if (directory / name).exists():
            return _shards(directory / name) if name.endswith(".json") else [directory / name]
    raise BrokenWeightsError("has no model.safetensors and no pytorch_model.bin")


def own_files(directory: Path) -> list[Path]:
    """Those of `weight_files` that are the checkpoint's own: all but an adapter's base."""
    files = weight_files(directory)
    return files[-1:] if is_adapter(directory) else files


def tensors(directory: Path) -> Iterator[Tensor]:
    """Every tensor of a checkpoint, from the headers alone; an adapter's own, once its base is found whole.

    Safetensors need no torch for this; `.bin` files do.

    Raises
    ------
    BrokenWeightsError
        If a file cannot be read, is truncated, or makes no sense.
    """
    if is_adapter(directory):
        list(tensors(model_folder(directory)))
    seen: dict[str, Path] = {}
    for file in own_files(directory):
        try:
            parts = list(_header(file) if file.suffix == ".safetensors" else _pickled(file))
        except OSError as error:
            raise BrokenWeightsError(f"{file.name} cannot be read: {error.strerror or error}") from None
        for part in parts:
            if part.name in seen:
                raise BrokenWeightsError(f"{part.name} is in {seen[part.name].name} and in {file.name}")
            seen[part.name] = file
            yield part


def _settings(directory: Path) -> dict[str, Any]:
    try:
        return dict(read_json(directory / ADAPTER_SETTINGS))
    except (InputError, TypeError, ValueError) as error:
        raise BrokenWeightsError(f"{ADAPTER_SETTINGS} is not an adapter's: {error}") from None


def _shards(index: Path) -> list[Path]:
    try:
        named = [index.parent / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    except (InputError, LookupError, TypeError, AttributeError) as error:
        raise BrokenWeightsError(f"{index.name} is not a weight index: {error}") from None
    missing = [file.name for file in named if not file.exists()]
    if missing:
        raise BrokenWeightsError(f"{index.name} names {', '.join(missing)}, which is missing")
    return named


def _header(file: Path) -> Iterator[Tensor]:
    size = file.stat().st_size
    with open(file, "rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if size < 8 or length > size - 8:
            raise BrokenWeightsError(f"{file.name} is truncated: {size} bytes, shorter than its own header")
        try:
            header = json.loads(handle.read(length))
            parts = [
                (name, part["dtype"], tuple(map(int, part["shape"])), *map(int, part["data_offsets"]))
                for name, part in header.items()
                if name != "__metadata__"
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BrokenWeightsError(f"{file.name} has a corrupt header: {error}") from None
    data = size - 8 - length
    for name, dtype, shape, start, stop in parts:
        wanted = math.prod(shape) * _BITS.get(dtype, 0) // 8
        if stop > data:
            raise BrokenWeightsError(
                f"{file.name} is truncated: {name} ends {stop - data} bytes past its end"
            )
        if wanted and wanted != stop - start:
            raise BrokenWeightsError(f"{file.name} has a corrupt header: {name} has not {wanted} bytes")
        yield Tensor(file, name, dtype, shape, 8 + length + start, 8 + length + stop)


def _pickled(file: Path) -> Iterator[Tensor]:
    """The tensors of a `.bin` file; its pickle may build tensors and nothing else."""
    import torch

    zipped = zipfile.is_zipfile(file)  # else written by torch < 1.6, which cannot be memory-mapped
    with open(file, "rb") as handle:
        if handle.read(2) == b"PK" and not zipped:
            raise BrokenWeightsError(f"{file.name} is truncated: the end of its archive is missing")
    try:
        held = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except UnpicklingError:
        raise BrokenWeightsError(
            f"{file.name} is damaged, or holds more than tensors, which could run code; "
            "save it again as safetensors"
        ) from None
    except (RuntimeError, EOFError, ValueError, LookupError) as error:
        why = str(error).partition("\n")[0] or "it ends too soon"
        raise BrokenWeightsError(f"{file.name} is damaged: {why}") from None
    if not isinstance(held, dict):
        raise BrokenWeightsError(f"{file.name} holds a {type(held).__name__} where names and tensors belong")
    for name, value in held.items():
        if not isinstance(value, torch.Tensor):
            raise BrokenWeightsError(f"{file.name} holds {name!r}, which is no tensor")
        yield Tensor(file, name, dtype_name(value.dtype), tuple(value.shape), values=value)


def dtype_name(dtype: torch.dtype) -> str:
    """`torch.bfloat16` → `BF16`, `torch.float8_e4m3fn` → `F8_E4M3`."""
    word = str(dtype).removeprefix("torch.").removesuffix("fn").upper()
    for long, short in (("FLOAT", "F"), ("UINT", "U"), ("INT", "I")):
        word = word.replace(long, short)
    return word
