"""Which language's identifier intermediate layers decode to, where an identifier is due.

Per cell (layer l, prompt), with h_l read by the logit lens at the position before the identifier:

    top        the language whose token set holds the likeliest token, if any    (arXiv 2412.07298, Eq. 1)
    share      softmax over languages of log-mean-exp of the logits over each set
    mass       Σ of probabilities over each set, under the full softmax       (Wendler et al., 2402.10588)
    entropy    of the full softmax, in nats
    rank       of the likeliest token that begins the right identifier, from 1

Eq. 1 is then R_i = #{top = i} / Σ_j #{top = j} over chosen cells. Three nulls come with it, since a
set may score high for reasons that have nothing to do with language:

    random sets       the same, for tokens of like frequency in place of the identifiers
    elsewhere         the same sets, at a random earlier position of each prompt
    random model      the whole measure on a randomly initialised model (`random_init`)

All but the share take the whole vocabulary; `vocabulary=False` leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from babelscope.interp.lens_measure import LensMeasure
from babelscope.interp.measure import Item, Observer
from babelscope.interp.streams import PromptReading, PromptStream
from babelscope.interp.tuned_lens import TunedTranslators

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Site
    from babelscope.interp.batching import Batch
    from babelscope.interp.lens import LogitLens

DRAWS = 20  # random sets: enough for a 90 % null band that no single draw decides
NEIGHBOURS = 20  # a random token is drawn among this many of like frequency
NOBODY = -1  # no language, where the likeliest token is nobody's identifier; and no token
PLACES = AT, ELSEWHERE = "", "elsewhere_"  # prefixes of what is seen before the identifier, and at random


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
    # Many tokens are equally frequent: sorted by id, those would always be the tokenizer's first.
    free = rng.permutation(np.setdiff1d(np.arange(len(reading.frequency)), taken))
    order = free[np.argsort(reading.frequency[free], kind="stable")]
    ranked = reading.frequency[order]

    def alike(token: int) -> np.ndarray:
        middle = int(np.searchsorted(ranked, reading.frequency[token]))
        start = max(0, min(middle - NEIGHBOURS // 2, len(order) - NEIGHBOURS))
        return rng.choice(order[start : start + NEIGHBOURS], DRAWS)

    # In the order of their names, so that the order of prompts does not decide what is drawn.
    return {key: np.stack([alike(t) for t in reading.sets[key]], axis=1) for key in sorted(reading.sets)}


class WorkingLanguage(LensMeasure[PromptReading]):
    """What every layer decodes to at every prompt, by language.

    Result, by (layer, prompt): `share` and `mass` by language, `top`, `entropy`, `rank`; the same at random
    places as `elsewhere_share` and so on; `null_share`, `null_mass`, `null_top` by draw and language, and
    `null_rank` of one random set a prompt; `top_token`, likeliest first, with `top_probability`.

    Parameters
    ----------
    stream
        Identifier probes of pivot and targets.
    vocabulary
        Whether to read the whole vocabulary; without it there are only shares.
    translators
        Of the tuned lens, to read with; the logit lens without.
    """

    name: ClassVar[str] = "working_language"
    version: ClassVar[int] = 4
    sites: ClassVar[frozenset[str]] = frozenset({"residual"})
    random_init: ClassVar[bool] = True

    def __init__(
        self,
        stream: PromptStream,
        *,
        vocabulary: bool = True,
        translators: TunedTranslators | None = None,
    ):
        super().__init__(translators)
        self.stream = stream
        self.vocabulary = vocabulary

    @property
    def config(self) -> dict[str, Any]:
        return {"draws": DRAWS, "neighbours": NEIGHBOURS, "vocabulary": self.vocabulary}

    def observer(self, anatomy: Anatomy, reading: PromptReading, shard: Sequence[Item]) -> Observer:
        prompts = [item.index for item in shard]
        return _Cells(self.lens(anatomy), anatomy.n_layers, reading, prompts, vocabulary=self.vocabulary)

    def combine(self, parts: Sequence[xr.Dataset], reading: PromptReading) -> xr.Dataset:
        """All cells, with each prompt's concept and language."""
        whole = xr.concat(parts, dim="prompt").sortby("prompt")
        concepts = [probe.concept for probe in reading.probes]
        spoken = [probe.language for probe in reading.probes]
        whole = whole.assign_coords(concept=("prompt", concepts), spoken=("prompt", spoken))
        return whole.assign_attrs(
            intermediate=list(intermediate_layers(whole.sizes["layer"])),
            dropped=list(reading.dropped),
            lens=self.lens_name,
        )


class _Cells:
    """Cells of one shard, filled layer by layer."""

    def __init__(
        self,
        lens: LogitLens,
        n_layers: int,
        reading: PromptReading,
        prompts: Sequence[int],
        *,
        vocabulary: bool,
    ):
        import torch

        from babelscope.interp.survey import TOP

        self.lens, self.readout, self.vocabulary = lens, lens.readout, vocabulary
        self.languages = list(reading.languages)
        self.elsewhere = reading.elsewhere
        self.concept = np.array([reading.concepts.index(probe.concept) for probe in reading.probes])
        self.spoken = np.array([self.languages.index(probe.language) for probe in reading.probes])
        self.row = {prompt: row for row, prompt in enumerate(prompts)}
        tokens = _by_concept(reading)
        columns = np.unique(tokens[tokens != NOBODY])
        self.tokens, self.columns = (
            torch.as_tensor(a, device=self.readout.unembed.device) for a in (tokens, columns)
        )
        self.places = torch.searchsorted(self.columns, self.tokens)

        cell = {"layer": n_layers, "prompt": len(prompts)}
        by_language = cell | {"language": len(self.languages)}
        by_draw = cell | {"draw": DRAWS, "language": len(self.languages)}
        missing = np.float32(np.nan)
        everywhere: dict[str, tuple[dict[str, int], np.generic]] = {"share": (by_language, missing)}
        only_here: dict[str, tuple[dict[str, int], np.generic]] = {"null_share": (by_draw, missing)}
        if vocabulary:
            everywhere |= {
                "mass": (by_language, missing),
                "top": (cell, np.int8(NOBODY)),
                "entropy": (cell, missing),
                "rank": (cell, np.int32(0)),
            }
            only_here |= {
                "null_mass": (by_draw, missing),
                "null_top": (by_draw, np.False_),
                "null_rank": (cell, np.int32(0)),
                "top_token": (cell | {"best": TOP}, np.int32(0)),
                "top_probability": (cell | {"best": TOP}, missing),
            }
        wanted = {place + name: kind for place in PLACES for name, kind in everywhere.items()} | only_here
        self.found = {
            name: xr.Variable(list(sizes), np.full(list(sizes.values()), fill))
            for name, (sizes, fill) in wanted.items()
        }

    def see(self, site: Site, layer: int, tensor: Tensor, batch: Batch) -> None:
        import torch

        prompts = np.array([item.index for item in batch.items])
        every = torch.arange(len(prompts), device=tensor.device)
        elsewhere = torch.as_tensor(self.elsewhere[prompts], device=tensor.device)
        for place, positions in zip(PLACES, (batch.last, elsewhere), strict=True):
            normed = self.lens.normed(tensor[every, positions], layer=layer)
            cells = self._cells(normed, prompts)
            where = layer - 1, [self.row[prompt] for prompt in prompts]
            for name, found in cells.items():
                if place + name in self.found:
                    self.found[place + name].values[where] = found.cpu().numpy()

    def _cells(self, normed: Float[Tensor, "row d_model"], prompts: np.ndarray) -> dict[str, Tensor]:
        """Everything about these states, one of each prompt."""
        import torch

        # Which random set a prompt is ranked by may be any but must not depend on the order of prompts.
        concept, spoken, drawn = (
            torch.as_tensor(a, device=normed.device)
            for a in (self.concept[prompts], self.spoken[prompts], self.elsewhere[prompts] % DRAWS + 1)
        )
        tokens = self.tokens[
            concept
        ]  # (row, draw, language, member); draw 0 holds the identifiers themselves
        rows = torch.arange(len(prompts), device=normed.device)
        logits = self.readout.logits(normed, tokens=self.columns)
        absent = tokens == NOBODY
        members = logits[rows[:, None, None, None], self.places[concept]].masked_fill(absent, -torch.inf)
        sums, size = members.logsumexp(-1), (~absent).sum(-1)
        shares = (sums - size.clamp(min=1).log()).softmax(-1).masked_fill(size == 0, torch.nan)
        found = {"share": shares[:, 0], "null_share": shares[:, 1:]}
        if self.vocabulary:
            from babelscope.interp.survey import survey

            best = members.amax(-1)
            seen = survey(
                self.readout,
                normed,
                marks=torch.stack([best[rows, 0, spoken], best[rows, drawn, spoken]], -1),
            )
            mass = (sums - seen.normaliser[:, None, None]).exp().masked_fill(size == 0, torch.nan)
            holds = (tokens == seen.top[:, :1, None, None]).any(-1)
            found |= {
                "mass": mass[:, 0],
                "null_mass": mass[:, 1:],
                "top": torch.where(holds[:, 0].any(-1), holds[:, 0].int().argmax(-1), NOBODY),
                "null_top": holds[:, 1:],
                "entropy": seen.entropy,
                "rank": seen.above[:, 0] + 1,
                "null_rank": seen.above[:, 1] + 1,
                "top_token": seen.top,
                "top_probability": seen.top_probabilities,
            }
        return found

    def result(self) -> xr.Dataset:
        n_layers = self.found["share"].sizes["layer"]
        coords = {"layer": np.arange(1, n_layers + 1), "prompt": list(self.row), "language": self.languages}
        return xr.Dataset(self.found, coords=coords)


def _by_concept(reading: PromptReading) -> Int[np.ndarray, "concept draw language member"]:
    """Token ids of all sets, the identifiers' own as draw 0; filled up with `NOBODY`."""
    drawn = matched_sets(reading)
    shape = len(reading.concepts), 1 + DRAWS, len(reading.languages), max(map(len, reading.sets.values()))
    tokens = np.full(shape, NOBODY)
    for (concept, language), own in reading.sets.items():
        where = reading.concepts.index(concept), reading.languages.index(language)
        tokens[where[0], 0, where[1], : len(own)] = own
        tokens[where[0], 1:, where[1], : len(own)] = drawn[concept, language]
    return tokens
