"""Results on disk: one self-describing netCDF file per checkpoint and measure.

The name of a file is a hash of everything that decides its content, so a result is found again or
computed anew, never mistaken. Files appear whole (temporary name, then rename): several processes can
fill one store, and a killed one leaves nothing half-written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import xarray as xr

from babelscope.core.errors import InputError
from babelscope.core.files import digest, whole_file

Shard = tuple[int, int]  # tokens per shard, and which: shards of another size are other shards


@dataclass(frozen=True)
class Key:
    """What decides a result.

    Attributes
    ----------
    fingerprint
        Of the weights.
    measure, version, config
        Which measure, and a hash of its configuration.
    stream
        Hash of what is read: texts, probes or problems.
    tokenizer
        Hash of the tokenizer's files.
    dtype
        In which the model ran.
    """

    fingerprint: str
    measure: str
    version: int
    config: str
    stream: str
    tokenizer: str
    dtype: str

    @property
    def stem(self) -> str:
        return f"{self.measure}/{digest(asdict(self))}"


class Store:
    """A directory of results.

    Parameters
    ----------
    directory
        Made at the first write.
    """

    def __init__(self, directory: Path):
        self.directory = directory

    def __contains__(self, key: Key) -> bool:
        return self._file(key).exists()

    def load(self, key: Key) -> xr.Dataset:
        """The result under `key`; `KeyError` if there is none."""
        return _read(self._file(key), key)

    def save(self, key: Key, result: xr.Dataset, *, about: Mapping[str, int | float | str]) -> None:
        """Keep a result, with its key and `about` among its attributes, and drop its shards."""
        described = result.assign_attrs(asdict(key) | dict(about))
        _write(self._file(key), described)
        self.drop_parts(key)

    def drop_parts(self, key: Key) -> None:
        """Remove the shards of a result."""
        for part in self._parts(key):
            part.unlink(missing_ok=True)

    def has_part(self, key: Key, shard: Shard) -> bool:
        """Whether a shard was reached before."""
        return self._part(key, shard).exists()

    def load_part(self, key: Key, shard: Shard) -> xr.Dataset:
        """A shard's partial result; `KeyError` once the whole is saved."""
        return _read(self._part(key, shard), key)

    def save_part(self, key: Key, shard: Shard, result: xr.Dataset) -> None:
        """Keep a shard's partial result until the whole is saved."""
        _write(self._part(key, shard), result)

    def tidy(self) -> None:
        """Remove shards whose whole exists: a process was killed between saving and dropping them."""
        for part in self.directory.glob("*/*.shard*.nc"):
            if part.with_name(part.name.split(".")[0] + ".nc").exists():
                part.unlink(missing_ok=True)

    def _file(self, key: Key) -> Path:
        return self.directory / f"{key.stem}.nc"

    def _part(self, key: Key, shard: Shard) -> Path:
        return self.directory / f"{key.stem}.shard{shard[0]}-{shard[1]:05d}.nc"

    def _parts(self, key: Key) -> list[Path]:
        file = self._file(key)
        return list(file.parent.glob(f"{file.stem}.shard*.nc"))


def _write(file: Path, result: xr.Dataset) -> None:
    # Through memory: HDF5 reports a full disk late and unclearly, a plain write at once.
    content = result.to_netcdf(engine="h5netcdf")
    with whole_file(file) as temporary:
        temporary.write_bytes(content)


def _read(file: Path, key: Key) -> xr.Dataset:
    try:
        # Without its encoding a part that was read back is written like one that was just computed.
        return xr.load_dataset(file, engine="h5netcdf").drop_encoding()
    except FileNotFoundError:
        raise KeyError(key) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}); delete it and run the command again") from None
