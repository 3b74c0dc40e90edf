"""Blocks of text as the unit of chance: which language each is of, and giving them to languages at random.

A cell is one language's one block. Cells without tokens are left out; of paired blocks (`attrs["paired"]`:
a concept asked for in every language) those that lack a language. Random ways of giving cells to languages
keep how many each has, and paired blocks keep theirs together: languages change places within a block.
"""

from __future__ import annotations

from math import factorial, prod

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from babelscope.interp.lape import firing_rate

DRAWS = 200  # random ways of giving cells to languages


def cells_of(found: xr.Dataset) -> xr.Dataset:
    """`total` (cell, layer, neuron) and `tokens` (cell,) of one checkpoint, block by block.

    `language` (cell,) counts them in the order of `attrs["languages"]`, `block` (cell,) says which block.
    """
    languages = found["language"].to_numpy().tolist()
    known = found.assign_coords(block=np.arange(found.sizes["block"]), language=np.arange(len(languages)))
    cells = known[["total", "tokens"]].stack(cell=("block", "language"), create_index=False)
    kept = cells["tokens"].to_numpy() > 0
    if found.attrs.get("paired"):
        kept = np.repeat(kept.reshape(-1, len(languages)).all(1), len(languages))
    cells = cells.isel(cell=kept).transpose("cell", "layer", "neuron")
    return cells.assign_attrs(languages=languages, paired=bool(found.attrs.get("paired")))


def given_away(cells: xr.Dataset, *, draws: int = DRAWS, seed: int = 0) -> Int[np.ndarray, "draw cell"]:
    """The language of every cell: first the real one, then at random."""
    rng = np.random.default_rng(seed)
    real = cells["language"].to_numpy()
    if cells.attrs["paired"]:
        within = np.tile(real.reshape(-1, len(cells.attrs["languages"])), (draws, 1, 1))
        random = rng.permuted(within, axis=2).reshape(draws, real.size)
    else:
        random = rng.permuted(np.tile(real, (draws, 1)), axis=1)
    return np.concatenate([real[None], random])


def ways(cells: xr.Dataset) -> int:
    """In how many ways the cells can be given to the languages."""
    sizes = blocks_of_each(cells).tolist()
    if cells.attrs["paired"]:
        return factorial(len(sizes)) ** sizes[0]
    return factorial(sum(sizes)) // prod(map(factorial, sizes))


def blocks_of_each(cells: xr.Dataset) -> Int[np.ndarray, " language"]:
    """How many cells each language has."""
    return np.bincount(cells["language"], minlength=len(cells.attrs["languages"]))


def spoken(
    cells: xr.Dataset, given: Int[np.ndarray, " cell"] | None = None
) -> Int[np.ndarray, "language cell"]:
    """1 where a cell is of a language: its own, or the one that it is given to."""
    given = cells["language"].to_numpy() if given is None else given
    return (given == np.arange(len(cells.attrs["languages"]))[:, None]).astype(int)


def rates(
    cells: xr.Dataset, times: Int[np.ndarray, "language cell"]
) -> Float[np.ndarray, "language layer neuron"]:
    """Share of tokens at which a neuron fires; `times` says how often each cell counts for a language."""
    total = cells["total"].to_numpy()
    counts = times.astype(float) @ total.reshape(len(total), -1)  # exact up to 2⁵³, and far faster than int
    return firing_rate(counts.reshape(-1, *total.shape[1:]), times @ cells["tokens"].to_numpy())
