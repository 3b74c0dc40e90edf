"""Which language's identifier intermediate layers decode to, where an identifier is due.

Per cell (layer l, prompt), with h_l read by the logit lens at the position before the identifier:

    top     the language whose token set holds the most likely token, if any    (arXiv 2412.07298, Eq. 1)
    share   softmax over languages of log-mean-exp of the logits over each set
    mass    Σ of probabilities over each set, under the full softmax

Eq. 1 is then R_i = #{top = i} / Σ_j #{top = j} over chosen cells. Three nulls come with it, since a
set may score high for reasons that have nothing to do with language:

    random sets       the same, for tokens of like frequency in place of the identifiers
    elsewhere         the same sets, at a random earlier position of each prompt
    random model      the whole measure on a randomly initialised model (`random_init`)
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import xarray as xr
from scipy.special import softmax

from babelscope.interp.measure import Item, Observe, Observer
from babelscope.interp.streams import PromptReading, PromptStream
from babelscope.interp.tuned_lens import TunedTranslators

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Site
    from babelscope.interp.batching import Batch

DRAWS = 20  # random sets: enough for a 90 % null band that no single draw decides
NEIGHBOURS = 20  # a random token is drawn among this many of like frequency
OTHER = -1  # `top` where the most likely token is nobody's identifier


def intermediate_layers(n_layers: int) -> range:
    """Layers that count as intermediate, numbered from 1 (after the first block).

    All but the last round(5/24 of them), at least one: the paper's five of 24, in proportion.

    >>> list(intermediate_layers(6))
    [1, 2, 3, 4, 5]
    """
    return range(1, n_layers - max(1, round(5 * n_layers / 24)) + 1)


def matched_sets(reading: PromptReading) -> dict[tuple[str, str], np.ndarray]:
    """Random token ids (draw, member) for every identifier set, of like background frequency."""
    rng = np.random.default_rng(0)
    taken = np.unique(np.concatenate(list(reading.sets.values())))
    free = np.setdiff1d(np.arange(len(reading.frequency)), taken)
    order = free[np.argsort(reading.frequency[free], kind="stable")]
    ranked = reading.frequency[order]

    def alike(token: int) -> np.ndarray:
        middle = int(np.searchsorted(ranked, reading.frequency[token]))
        start = max(0, min(middle - NEIGHBOURS // 2, len(order) - NEIGHBOURS))
        return rng.choice(order[start : start + NEIGHBOURS], DRAWS)

    return {key: np.stack([alike(t) for t in tokens], axis=1) for key, tokens in reading.sets.items()}


class WorkingLanguage(Observe[PromptReading]):
    """Top token, soft share and absolute mass per language, at every layer and prompt.

    Parameters
    ----------
    stream
        Identifier probes of pivot and targets.
    """

    name: ClassVar[str] = "working_language"
    version: ClassVar[int] = 2
    sites: ClassVar[frozenset[str]] = frozenset({"residual"})
    random_init: ClassVar[bool] = True

    def __init__(self, stream: PromptStream, translators: TunedTranslators | None = None):
        self.stream = stream
        self.needs = translators
        self.found: xr.Dataset | None = None

    def using(self, found: xr.Dataset) -> Self:
        measure = copy(self)
        measure.found = found
        return measure

    @property
    def config(self) -> dict[str, Any]:
        return {"draws": DRAWS, "neighbours": NEIGHBOURS}

    def observer(self, anatomy: Anatomy, reading: PromptReading, shard: Sequence[Item]) -> Observer:
        return _Cells(anatomy, reading, [item.index for item in shard], self.found)

    def combine(self, parts: Sequence[xr.Dataset], reading: PromptReading) -> xr.Dataset:
        """Cells by (layer, prompt); `null_*` have a `draw` more, `elsewhere_*` another position."""
        whole = xr.concat(parts, dim="prompt").sortby("prompt")
        concepts = [probe.concept for probe in reading.probes]
        spoken = [probe.language for probe in reading.probes]
        whole = whole.assign_coords(concept=("prompt", concepts), spoken=("prompt", spoken))
        return whole.assign_attrs(
            intermediate=list(intermediate_layers(whole.sizes["layer"])), dropped=list(reading.dropped)
        )


class _Cells:
    def __init__(self, anatomy: Anatomy, reading: PromptReading, prompts: Sequence[int], found: Any = None):
        from babelscope.interp.lens import LogitLens, Readout, TunedLens

        self.lens = LogitLens(anatomy) if found is None else TunedLens(anatomy, found)
        self.readout = Readout(anatomy)
        self.reading = reading
        self.row = {prompt: row for row, prompt in enumerate(prompts)}
        self.nulls = matched_sets(reading)
        everyone = [*reading.sets.values(), *self.nulls.values()]
        self.columns = np.unique(np.concatenate([tokens.ravel() for tokens in everyone]))
        cells = (anatomy.n_layers, len(prompts))
        languages = len(reading.languages)
        self.top = {"": np.full(cells, OTHER, np.int8), "elsewhere_": np.full(cells, OTHER, np.int8)}
        self.top_token = np.zeros(cells, np.int32)
        self.share = {name: np.full((*cells, languages), np.nan, np.float32) for name in self.top}
        self.mass = {name: np.full((*cells, languages), np.nan, np.float32) for name in self.top}
        self.null_top = np.zeros((*cells, DRAWS, languages), bool)
        self.null_share = np.full((*cells, DRAWS, languages), np.nan, np.float32)
        self.null_mass = np.full((*cells, DRAWS, languages), np.nan, np.float32)

    def see(self, site: Site, layer: int, tensor: Tensor, batch: Batch) -> None:
        import torch

        prompts = np.array([item.index for item in batch.items])
        concepts = np.array([self.reading.probes[prompt].concept for prompt in prompts])
        every = torch.arange(len(prompts), device=tensor.device)
        elsewhere = torch.as_tensor(self.reading.elsewhere[prompts], device=tensor.device)
        seen = torch.cat([tensor[every, batch.last], tensor[every, elsewhere]])
        normed = self.lens.normed(seen, layer=layer)
        best, normaliser = (found.cpu().numpy() for found in self.readout.top(normed))
        logits = self.readout.logits(normed, tokens=torch.as_tensor(self.columns, device=tensor.device))
        for first, name in ((0, ""), (len(prompts), "elsewhere_")):
            for concept in np.unique(concepts):
                chosen = np.flatnonzero(concepts == concept)
                rows = [self.row[prompt] for prompt in prompts[chosen]]
                cells = first + chosen
                self._cells(
                    name,
                    layer - 1,
                    rows,
                    concept,
                    best=best[cells],
                    normaliser=normaliser[cells],
                    logits=logits[torch.as_tensor(cells)],
                )

    def _cells(
        self,
        name: str,
        layer: int,
        rows: list[int],
        concept: str,
        *,
        best: Int[np.ndarray, " row"],
        normaliser: Float[np.ndarray, " row"],
        logits: Float[Tensor, "row column"],
    ) -> None:
        """Everything about one concept's cells of one layer."""
        languages = [
            w for w, name in enumerate(self.reading.languages) if (concept, name) in self.reading.sets
        ]
        keys = [(concept, self.reading.languages[which]) for which in languages]
        means = np.stack([self._strength(logits, self.reading.sets[key]) for key in keys], -1)
        for which, key in zip(languages, keys, strict=True):
            self.top[name][layer, rows] = np.where(
                np.isin(best, self.reading.sets[key]), which, self.top[name][layer, rows]
            )
        where = (layer, np.array(rows)[:, None], languages)
        sizes = np.array([len(self.reading.sets[key]) for key in keys])
        self.share[name][where] = softmax(means, axis=-1)
        self.mass[name][where] = np.exp(means - normaliser[:, None]) * sizes
        if name:
            return
        self.top_token[layer, rows] = best
        drawn = [self.nulls[key] for key in keys]  # each (draw, member)
        means = np.stack([self._strength(logits, tokens) for tokens in drawn], -1)  # (row, draw, language)
        shares, masses = softmax(means, axis=-1), np.exp(means - normaliser[:, None, None]) * sizes
        for column, which in enumerate(languages):
            self.null_top[layer, rows, :, which] = (best[:, None, None] == drawn[column]).any(-1)
            self.null_share[layer, rows, :, which] = shares[..., column]
            self.null_mass[layer, rows, :, which] = masses[..., column]

    def _strength(self, logits: Float[Tensor, "row column"], tokens: np.ndarray) -> np.ndarray:
        import torch

        from babelscope.interp.lens import log_mean_exp

        places = torch.as_tensor(np.searchsorted(self.columns, tokens), device=logits.device)
        return log_mean_exp(logits, places).cpu().numpy()

    def result(self) -> xr.Dataset:
        cell, by_language = ("layer", "prompt"), ("layer", "prompt", "language")
        by_draw = ("layer", "prompt", "draw", "language")
        return xr.Dataset(
            {
                **{f"{name}top": (cell, values) for name, values in self.top.items()},
                **{f"{name}share": (by_language, values) for name, values in self.share.items()},
                **{f"{name}mass": (by_language, values) for name, values in self.mass.items()},
                "top_token": (cell, self.top_token),
                "null_top": (by_draw, self.null_top),
                "null_share": (by_draw, self.null_share),
                "null_mass": (by_draw, self.null_mass),
            },
            coords={
                "layer": np.arange(1, self.top_token.shape[0] + 1),
                "prompt": list(self.row),
                "language": list(self.reading.languages),
            },
        )
