"""What one neuron is worth, exactly: zeroed alone, one after another, in a sample of all neurons.

This is what scores (`plnd`, `attribution`, `neurons`) estimate or stand for, at the price of a pass per
neuron. So it is paid for a sample: stratified by layer and, within a layer, by quarter of activation size
(root mean square on held-out text), as evenly as can be. The same checkpoint always gives the same sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import xarray as xr

from babelscope.interp.ablation import TOKENS, Activity, nats
from babelscope.interp.identifier_choice import IdentifierChoice, asked
from babelscope.interp.measure import Drive, Item
from babelscope.interp.neuron_totals import BLOCKS, Totals
from babelscope.interp.streams import PromptReading, PromptStream, TextReading, TextStream

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Edit
    from babelscope.interp.batching import Batch

SAMPLED = 504  # divisible by many numbers of layers
QUARTERS = 4  # of a layer, by activation size


class Sample(NamedTuple):
    """Some neurons, layer by layer; layers are counted from 0."""

    layer: Int[np.ndarray, " sampled"]
    neuron: Int[np.ndarray, " sampled"]
    stratum: Int[np.ndarray, " sampled"]

    def variables(self) -> dict[str, tuple[str, np.ndarray]]:
        return {name: ("sampled", values) for name, values in self._asdict().items()}


def sample(size: Float[np.ndarray, "layer neuron"], neurons: int) -> Sample:
    """As many neurons of every layer and quarter of activation size as can be; all, where there are fewer."""
    rng = np.random.default_rng(0)
    strata = [part + layer * size.shape[1] for layer, of in enumerate(size) for part in _quarters(of)]
    ends = np.linspace(0, neurons, len(strata) + 1).round().astype(int)
    drawn = [
        np.sort(rng.choice(units, min(count, len(units)), replace=False))
        for units, count in zip(strata, np.diff(ends), strict=True)
    ]
    unit = np.concatenate(drawn)
    stratum = np.repeat(np.arange(len(strata)), [len(some) for some in drawn])
    return Sample(unit // size.shape[1], unit % size.shape[1], stratum)


def _quarters(size: Float[np.ndarray, " neuron"]) -> list[Int[np.ndarray, " some"]]:
    return np.array_split(np.argsort(size, kind="stable"), QUARTERS)


class SingleAblation(Drive[TextReading]):
    """How much the held-out loss of each language rises when a neuron is zeroed, for a sample of neurons.

    Result: `change` (language, block, sampled), sums of nats over tokens; `tokens` (language, block); `layer`
    (from 0), `neuron`, `stratum` by `sampled`.

    Parameters
    ----------
    stream
        Held-out text. A few thousand tokens per language will do: it is read once per neuron.
    neurons
        To sample.
    """

    name: ClassVar[str] = "single_ablation"
    version: ClassVar[int] = 1
    shard_tokens = 1 << 9  # each is read once per neuron: a kill costs no more

    def __init__(self, stream: TextStream, *, neurons: int = SAMPLED):
        self.stream = stream
        self.neurons = neurons

    @property
    def config(self) -> dict[str, Any]:
        return {"neurons": self.neurons, "quarters": QUARTERS, "blocks": BLOCKS}

    def drive(
        self, anatomy: Anatomy, tokenizer: Any, reading: TextReading, shard: Sequence[Item]
    ) -> xr.Dataset:
        import torch

        from babelscope.interp.batching import batches
        from babelscope.interp.lens import Readout

        chosen = sample(Activity.of(anatomy, reading).size, self.neurons)
        readout = Readout(anatomy)
        totals = Totals(reading, layers=1, neurons=len(chosen.layer))
        for batch in batches(shard, tokens=TOKENS, device=anatomy.device):
            before = nats(anatomy, readout, batch)
            after = [
                nats(anatomy, readout, copies, edit).reshape(-1, len(before))
                for copies, edit in zeroed_one_by_one(batch, chosen)
            ]
            rises = torch.as_tensor((np.concatenate(after) - before).T, device=anatomy.device)
            totals.add(0, rises, batch)
        found = totals.result()
        return xr.Dataset(
            {
                "change": found["total"].isel(layer=0).rename(neuron="sampled"),
                "tokens": found["tokens"],
                **chosen.variables(),
            }
        )

    def combine(self, parts: Sequence[xr.Dataset], reading: TextReading) -> xr.Dataset:
        """Sums over shards."""
        whole = parts[0].copy()
        for name in ("change", "tokens"):
            whole[name] = sum((part[name] for part in parts[1:]), parts[0][name])
        return whole


class SingleAblationChoice(Drive[PromptReading]):
    """How the log-odds of the pivot's identifier against the target's change when a neuron is zeroed.

    Result: `change` (sampled, prompt of the target), coordinate `concept`; `layer` (from 0), `neuron`,
    `stratum` by `sampled`: the neurons of `SingleAblation` with the same text.

    Parameters
    ----------
    stream
        Identifier probes, the pivot's and the target's among them.
    text
        What activation sizes are taken from.
    pivot, target
        Prompts are the target's.
    neurons
        To sample.
    """

    name: ClassVar[str] = "single_ablation_choice"
    version: ClassVar[int] = 1
    shard_tokens = 1 << 10

    def __init__(
        self, stream: PromptStream, *, text: TextStream, pivot: str, target: str, neurons: int = SAMPLED
    ):
        self.stream, self.text = stream, text
        self.pivot, self.target = pivot, target
        self.neurons = neurons

    @property
    def config(self) -> dict[str, Any]:
        return {
            "neurons": self.neurons,
            "quarters": QUARTERS,
            "text": self.text.key,
            "pivot": self.pivot,
            "target": self.target,
        }

    def drive(
        self, anatomy: Anatomy, tokenizer: Any, reading: PromptReading, shard: Sequence[Item]
    ) -> xr.Dataset:
        import torch

        from babelscope.interp.batching import batches

        chosen = sample(Activity.of(anatomy, self.text.read(tokenizer)).size, self.neurons)
        prompts = asked(reading, shard, pivot=self.pivot, target=self.target)
        choice = IdentifierChoice(anatomy, reading, pivot=self.pivot, target=self.target)
        found, order = [np.empty((len(chosen.layer), 0))], []
        with torch.no_grad():
            for batch in batches(prompts, tokens=TOKENS, device=anatomy.device):
                before = choice.log_odds(choice.last(batch), batch.items)
                after = [
                    choice.log_odds(choice.last(copies, edit), copies.items).reshape(-1, len(before))
                    for copies, edit in zeroed_one_by_one(batch, chosen)
                ]
                found.append(np.concatenate(after) - before)
                order += [item.index for item in batch.items]
        return xr.Dataset(
            {"change": (("sampled", "prompt"), np.concatenate(found, axis=1)), **chosen.variables()},
            coords={"prompt": np.array(order, int)},
        )

    def combine(self, parts: Sequence[xr.Dataset], reading: PromptReading) -> xr.Dataset:
        """By the target's prompts, with their concepts."""
        whole = xr.concat(parts, dim="prompt", data_vars="minimal").sortby("prompt")
        concepts = [reading.probes[prompt].concept for prompt in whole["prompt"].to_numpy()]
        return whole.assign_coords(concept=("prompt", concepts))


def zeroed_one_by_one(batch: Batch, chosen: Sample) -> Iterator[tuple[Batch, Edit]]:
    """Copies of a batch, one below the other, in each of which one neuron is zeroed, in the sample's order.

    Short text makes small batches, which cost a processor hardly less than full ones.
    """
    from babelscope.interp.batching import Batch

    copies = max(1, TOKENS // batch.input_ids.numel())
    for start in range(0, len(chosen.layer), copies):
        layers, neurons = (of[start : start + copies] for of in (chosen.layer, chosen.neuron))
        times = len(layers)
        repeated = Batch(
            batch.input_ids.repeat(times, 1), batch.real.repeat(times, 1), list(batch.items) * times
        )
        yield repeated, _zeroing(layers, neurons)


def _zeroing(layers: Int[np.ndarray, " copy"], neurons: Int[np.ndarray, " copy"]) -> Edit:
    def edit(layer: int, tensor: Tensor) -> Tensor:
        here = np.flatnonzero(layers == layer)
        if not len(here):
            return tensor
        copies = tensor.clone().unflatten(0, (len(layers), -1))  # (copy, row, position, neuron)
        for copy in here:
            copies[copy, :, :, neurons[copy]] = 0
        return copies.flatten(0, 1)

    return edit
