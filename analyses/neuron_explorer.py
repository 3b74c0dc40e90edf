"""Neurons to look at: a table of a series' language neurons, and what any single one of them does.

    neurons = explore(series, results)
    neurons.table.query("language == 'php' and layer == 9 and born > 500")
    neurons.show(9, 1407)

The table and the lives come from stored results. For what a neuron fires on and writes a checkpoint is opened
when it is first asked for, and stays open for the next neuron.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from babelscope.analyses.figures.style import language_colours
from babelscope.analyses.neuron_births import lives
from babelscope.analyses.neuron_curve import Life
from babelscope.analyses.neuron_members import frozen_members, rate_of
from babelscope.analyses.neuron_view import Effect, NeuronView, Span
from babelscope.analyses.sweep import Results
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.core.languages import shown
from babelscope.interp.lens_table import spellings
from babelscope.interp.measure import Item
from babelscope.interp.neuron_scores import scores
from babelscope.interp.prompt_texts import NOTHING

if TYPE_CHECKING:
    from torch import Tensor

    from babelscope.checkpoints.live import LiveModel
    from babelscope.interp.anatomy import Anatomy, Site
    from babelscope.interp.batching import Batch

NEEDED = {"transferring_neurons": "TransferringNeurons", "top_activations": "TopActivations"}
BEFORE, AFTER = 16, 6  # tokens of a span around the position
BATCH_TOKENS = 1 << 12


def explore(
    series: Series,
    results: Results,
    *,
    members: xr.DataArray | None = None,
    step: int | None = None,
    device: str | None = None,
    dtype: str = "float32",
) -> Neurons:
    """The neurons of a series, ready to be looked at.

    Parameters
    ----------
    series
        The checkpoints.
    results
        What `sweep` found with `TransferringNeurons` and `TopActivations`.
    members
        Whose neurons are whose, (step, language, layer, neuron), as of `NeuronAnalysis.members`; default:
        LAPE at the first checkpoint's thresholds.
    step
        Of the checkpoint that is shown where none is named; default: the last that was measured.
    device, dtype
        Where and in which type the model runs, as in the sweep; default: the first GPU if there is one.

    Raises
    ------
    InputError
        If a measure or the step is not among the results.
    """
    return Neurons(series, results, members=members, step=step, device=device, dtype=dtype)


class Neurons:
    """All neurons of a series; `explore` makes it, and says what it takes.

    Attributes
    ----------
    languages
        Whose text was read.
    members
        Which neurons are which language's, by (step, language, layer, neuron).
    steps
        Of the checkpoints that can be shown.
    step
        Of the one that is shown where none is named.
    """

    def __init__(
        self,
        series: Series,
        results: Results,
        *,
        members: xr.DataArray | None = None,
        step: int | None = None,
        device: str | None = None,
        dtype: str = "float32",
    ):
        if missing := [name for name in NEEDED if name not in results]:
            raise InputError(
                f"results hold {', '.join(results) or 'nothing'}, not {', '.join(missing)}; sweep"
                f" {' and '.join(NEEDED[name] for name in missing)} too"
            )
        self.series, self.results = series, results
        self.device, self.dtype = device, dtype
        self._firing, self._top = (results[name] for name in NEEDED)
        self.languages: list[str] = self._firing["language"].to_numpy().tolist()
        self.members = frozen_members(self._firing) if members is None else members
        self.steps: list[int] = self._top["step"].to_numpy().tolist()
        self.step = self.steps[-1]
        self.step = self._checked_step(step)
        self._open: tuple[int, Anatomy] | None = None
        self._chance: dict[int, float] = {}

    def __repr__(self) -> str:
        layers, neurons = self._firing.sizes["layer"], self._firing.sizes["neuron"]
        found = ", ".join(
            f"{(self.table['language'] == name).sum()} {shown(name)}" for name in self.languages
        )
        return (
            f"{layers} × {neurons} neurons of {self.series.directory.name} at {len(self.steps)} checkpoints,"
            f" steps {self.steps[0]:,} to {self.steps[-1]:,}; a language's at some time: {found}"
        )

    @cached_property
    def table(self) -> pd.DataFrame:
        """Neurons that ever were a language's, a row for each language and neuron, as `NeuronLife.table_`."""
        rates = scores(self._firing, "transferring_neurons")
        return lives(self.members, rates, pivot=str(self.series.pivot), halves=None)

    def show(self, layer: int, index: int, step: int | None = None) -> NeuronView:
        """What a neuron fires on, what it writes, and its life.

        Parameters
        ----------
        layer
            Counted from 1.
        index
            Of the neuron in its layer, counted from 0, as in `table`.
        step
            Of the checkpoint; default: `self.step`.

        Raises
        ------
        InputError
            If there is no such layer, neuron or step.
        """
        step = self._checked_step(step)
        layer, index = self._checked(layer, index)
        anatomy = self._at(step)
        return NeuronView(
            layer=layer,
            neuron=index,
            step=step,
            spans=self._spans(anatomy, layer, index, step),
            effect=self._effect(anatomy, {layer - 1: [index]}, step),
            life=self._life(layer, index),
        )

    def writes(self, table: pd.DataFrame, step: int | None = None) -> Effect:
        """What a set of neurons writes together: the direct effect of their mean on the vocabulary.

        Parameters
        ----------
        table
            Rows of `table`, or anything with columns `layer` and `neuron`.
        step
            Of the checkpoint; default: `self.step`.

        Raises
        ------
        InputError
            If the table is empty, or there is no such layer, neuron or step.
        """
        step = self._checked_step(step)
        return self._effect(self._at(step), self._chosen(table), step)

    def steer(
        self, prompt: str, table: pd.DataFrame, mode: str, *, step: int | None = None, tokens: int = 24
    ) -> tuple[str, str]:
        """What the model goes on to write, greedily: as it is, and with a set of neurons changed.

        Parameters
        ----------
        prompt
            Any text.
        table
            Rows of `table`, or anything with columns `layer` and `neuron`.
        mode
            "zero" switches them off, "amplify" doubles them.
        step
            Of the checkpoint; default: `self.step`.
        tokens
            To be written, at most.

        Raises
        ------
        InputError
            If the table is empty, there is no such neuron or step, or as of `continuations`.
        """
        from babelscope.interp.steering import continuations

        anatomy = self._at(self._checked_step(step))
        members = np.zeros((anatomy.n_layers, anatomy.d_neurons), bool)
        for layer, neurons in self._chosen(table).items():
            members[layer, neurons] = True
        return continuations(anatomy, self.series.tokenizer, prompt, members, mode, tokens=tokens)

    def _chosen(self, table: pd.DataFrame) -> dict[int, list[int]]:
        """Neurons by layer, from 0."""
        if table.empty:
            raise InputError("the table of neurons is empty; ask for more of them")
        neurons: dict[int, list[int]] = {}
        for pair in table[["layer", "neuron"]].drop_duplicates().itertuples(index=False):
            layer, index = self._checked(*pair)
            neurons.setdefault(layer - 1, []).append(index)
        return neurons

    def _checked_step(self, step: int | None) -> int:
        if step is None:
            return self.step
        if step not in self.steps:
            raise InputError(f"step {step} was not measured; there are {', '.join(map(str, self.steps))}")
        return int(step)

    def _checked(self, layer: int, index: int) -> tuple[int, int]:
        layers, neurons = self._firing.sizes["layer"], self._firing.sizes["neuron"]
        if layer not in range(1, layers + 1):
            raise InputError(f"there is no layer {layer}; give one of 1 to {layers}")
        if index not in range(neurons):
            raise InputError(f"layer {layer} has no neuron {index}; give one of 0 to {neurons - 1}")
        return int(layer), int(index)

    @cached_property
    def _live(self) -> LiveModel:
        from babelscope.checkpoints.live import LiveModel
        from babelscope.checkpoints.opening import dtype_named

        return LiveModel(self.series, dtype=dtype_named(self.dtype), device=self.device, prefetch=False)

    def _at(self, step: int) -> Anatomy:
        if self._open is None or self._open[0] != step:
            self._open = None  # a swap that fails may leave a mixture behind
            self._open = step, self._live.at(self.series.at(step))
        return self._open[1]

    def _spans(self, anatomy: Anatomy, layer: int, index: int, step: int) -> dict[str, list[Span]]:
        """The text around the largest outputs of each language, with the neuron's output at every token."""
        from babelscope.interp.observe import observe

        top = self._top.sel(step=step).isel(layer=layer - 1, neuron=index)
        windows = [ids[ids != NOTHING] for ids in top["token"].to_numpy()]
        found = [
            (language, int(window), int(position))
            for language, of_window, of_position in zip(
                self.languages, top["window"].to_numpy(), top["position"].to_numpy(), strict=True
            )
            for window, position in zip(of_window, of_position, strict=True)
            if window != NOTHING
        ]
        # What comes after a position does not reach it: no more is run than is shown.
        items = [Item(windows[w][: at + 1 + AFTER].astype(np.int64), i) for i, (_, w, at) in enumerate(found)]
        trace = _Trace(layer - 1, index, {})
        observe(anatomy, items, [({"neuron"}, trace)], tokens=BATCH_TOKENS)
        texts = spellings(self.series.tokenizer, np.unique(np.concatenate([item.ids for item in items])))
        spans: dict[str, list[Span]] = {language: [] for language in self.languages}
        for (language, window, at), item in zip(found, items, strict=True):
            start = max(0, at - BEFORE)
            span = Span(
                tokens=tuple(texts[token] for token in item.ids[start:].tolist()),
                activations=tuple(trace.seen[item.index][start:].tolist()),
                peak=at - start,
                starts=start == 0,
                ends=len(item.ids) == len(windows[window]),
            )
            spans[language].append(span)
        return spans

    def _effect(self, anatomy: Anatomy, neurons: Mapping[int, Sequence[int]], step: int) -> Effect:
        from babelscope.interp.vocabulary_effect import chance, vocabulary_effect, written

        if step not in self._chance:
            self._chance[step] = chance(anatomy)
        found = vocabulary_effect(anatomy, written(anatomy, neurons).float().mean(0, keepdim=True))
        ids = [found.raised[0].tolist(), found.lowered[0].tolist()]
        texts = spellings(self.series.tokenizer, chain.from_iterable(ids))
        raised, lowered = (
            tuple(zip([texts[token] for token in tokens], by[0].tolist(), strict=True))
            for tokens, by in zip(ids, (found.raised_by, found.lowered_by), strict=True)
        )
        return Effect(raised, lowered, self._chance[step])

    def _life(self, layer: int, index: int) -> Life:
        counts = self._firing.isel(layer=layer - 1, neuron=index)
        own = self.members.isel(layer=layer - 1, neuron=index)
        pivot, target = str(self.series.pivot), str(self.series.target)
        rate, low, high = {}, {}, {}
        for language in self.languages:
            fired, tokens = (
                counts[name].sel(language=language).transpose("block", "step").to_numpy()
                for name in ("total", "tokens")
            )
            rate[language], (low[language], high[language]) = rate_of(fired, tokens)
        lived = self.table.query("layer == @layer and neuron == @index").set_index("language")
        return Life(
            steps=counts["step"].to_numpy(),
            rate=rate,
            low=low,
            high=high,
            member={language: own.sel(language=language).to_numpy() for language in self.languages},
            born=lived["born"].to_dict(),
            died=lived["died"].dropna().astype(int).to_dict(),
            colours=language_colours(self.languages, pivot=pivot, target=target),
        )


@dataclass(frozen=True)
class _Trace:
    """One neuron's output at every real position, by item."""

    layer: int
    neuron: int
    seen: dict[int, Float[Tensor, " position"]]

    def see(self, site: Site, layer: int, tensor: Tensor, batch: Batch) -> None:
        if layer == self.layer:
            for values, item in zip(tensor[..., self.neuron], batch.items, strict=True):
                self.seen[item.index] = values[: len(item.ids)].float().cpu()

    def result(self) -> xr.Dataset:
        return xr.Dataset({f"item {index}": ("position", of.numpy()) for index, of in self.seen.items()})
