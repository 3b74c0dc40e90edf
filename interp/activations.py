"""Activations at chosen positions: the residual stream after every block, for whatever is fitted to it.

Everything there is would be layers × tokens × width. A sample is enough for a linear probe, if it is drawn as
what it is compared with demands: as many files and as many positions of every language, and the positions
spread over the files, since those of one file are alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import xarray as xr

from babelscope.interp.measure import Item, Observe, Observer
from babelscope.interp.streams import TextReading, TextStream

if TYPE_CHECKING:
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Site
    from babelscope.interp.batching import Batch

POSITIONS = 512  # per language
EXCERPT = 600  # characters, about 200 tokens


def excerpts(texts: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """One stretch of whole lines from each document, the same at every call.

    A stream reads documents whole and stops when it has its tokens, which long ones leave to very few files.
    Of these stretches it reads many. Documents of at most `EXCERPT` characters stay as they are.
    """
    rng = np.random.default_rng(0)
    return {name: [_stretch(text, rng) for text in documents] for name, documents in texts.items()}


def _stretch(text: str, rng: np.random.Generator) -> str:
    start = int(rng.integers(0, max(1, len(text) - EXCERPT + 1)))
    start = text.rfind("\n", 0, start) + 1
    return text[start : start + EXCERPT]


class Activations(Observe[TextReading]):
    """The residual stream after every block, at the same sampled positions of every checkpoint.

    A window's first position is never among them: it has no context, and where a model parks attention its
    values are thousands of times the others'.

    Result: `activation` (layer, position, d_model) and, by position, `token` (its id), `language` and
    `document`. In float32, which holds what float32 and bfloat16 models compute as it is; float16 would round
    small values beside a large one's scale, or overflow. That is 4 · layers · languages · positions · d_model
    bytes for each checkpoint: 38 MB for two languages and the 124 M shape, a thirteenth of the checkpoint.

    Parameters
    ----------
    stream
        Held-out text by language; `excerpts` of it, where documents are long.
    positions
        To sample per language, at most.
    """

    name: ClassVar[str] = "activations"
    version: ClassVar[int] = 1
    sites: ClassVar[frozenset[str]] = frozenset({"residual"})
    random_init: ClassVar[bool] = True

    def __init__(self, stream: TextStream, *, positions: int = POSITIONS):
        self.stream = stream
        self.positions = positions

    @property
    def config(self) -> dict[str, Any]:
        return {"positions": self.positions}

    def observer(self, anatomy: Anatomy, reading: TextReading, shard: Sequence[Item]) -> Observer:
        sampled = sample(reading, self.positions)
        here = sampled["window"].isin([item.index for item in shard])
        return _Sampled(anatomy.n_layers, sampled.loc[here])

    def combine(self, parts: Sequence[xr.Dataset], reading: TextReading) -> xr.Dataset:
        whole = xr.concat(parts, dim="position").sortby("position")
        sampled = sample(reading, self.positions)
        tokens = [reading.items[window].ids[at] for window, at in sampled.to_numpy().tolist()]
        window = sampled["window"].to_numpy()
        return whole.assign_coords(
            token=("position", np.array(tokens)),
            language=("position", np.array(reading.languages)[reading.language[window]]),
            document=("position", reading.document[window]),
        ).assign_attrs(windows=len(reading.items))


def sample(reading: TextReading, positions: int) -> pd.DataFrame:
    """Which positions are looked at: columns `window` and `at`, a row each, by language.

    As many documents of every language, chosen at random; a position of each in turn, until there are enough.
    """
    rng = np.random.default_rng(0)
    read = [np.unique(reading.document[reading.language == which]) for which in range(len(reading.languages))]
    files = min(len(documents) for documents in read)
    candidates = []
    for documents in read:
        chosen = rng.permutation(documents)[:files]
        places = [
            (window, at)
            for window in np.flatnonzero(np.isin(reading.document, chosen)).tolist()
            for at in range(1, len(reading.items[window].ids))
        ]
        table = pd.DataFrame(rng.permutation(places), columns=["window", "at"])
        turn = table.groupby(reading.document[table["window"]]).cumcount()
        candidates.append(table.iloc[np.argsort(turn, kind="stable")])
    taken = min(positions, *(len(table) for table in candidates))
    return pd.concat([table.iloc[:taken] for table in candidates], ignore_index=True)


class _Sampled:
    def __init__(self, n_layers: int, sampled: pd.DataFrame):
        self.of_window: dict[
            int, list[tuple[int, int]]
        ] = {}  # where in it, and the sampled position's number
        for number, window, at in sampled.itertuples():
            self.of_window.setdefault(window, []).append((at, number))
        self.kept: list[list[np.ndarray]] = [[] for _ in range(n_layers)]  # by layer, then by batch
        self.numbers: list[int] = []  # of the sampled positions, as they come

    def see(self, site: Site, layer: int, tensor: Tensor, batch: Batch) -> None:
        import torch

        found = [
            (row, at, number)
            for row, item in enumerate(batch.items)
            for at, number in self.of_window.get(item.index, [])
        ]
        rows, ats, numbers = np.array(found, dtype=np.int64).reshape(-1, 3).T
        where = torch.as_tensor(np.stack([rows, ats]), device=tensor.device)
        self.kept[layer - 1].append(tensor[where[0], where[1]].float().cpu().numpy())
        if layer == 1:
            self.numbers += numbers.tolist()

    def result(self) -> xr.Dataset:
        activation = np.stack([np.concatenate(of_layer) for of_layer in self.kept])
        return xr.Dataset(
            {"activation": (("layer", "position", "d_model"), activation)},
            coords={"layer": np.arange(1, len(self.kept) + 1), "position": self.numbers},
        )
