"""Changing what a set of neurons writes: ablation in three ways, and steering.

A neuron's output is what the down-projection reads (`Site.NEURON`). At every position, that of each neuron of
a set becomes

    zero       0
    mean       its mean over held-out text in which every language weighs the same
    resample   what it was at another position of that text, one position for the whole set, of all layers:
               its neurons keep the company that they have in real text
    amplify    twice what it is
    patch      its mean over another language's text

All are one mechanism, x ← factor·x + level. Zero is a value like any other, and one that a neuron may never
take: what breaks may be what was never trained (Chan et al., "Causal scrubbing", 2022; Wang et al.,
arXiv 2211.00593, ablate to the mean). A mean may be such a value too; only resampling stays among those
that occur.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from babelscope.core.errors import InputError
from babelscope.interp.neuron_totals import Totals

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Edit
    from babelscope.interp.batching import Batch
    from babelscope.interp.lens import Readout
    from babelscope.interp.streams import TextReading

    Members = Bool[np.ndarray, "layer neuron"]

PLACES = 512  # of the text, that sets are resampled from
STRIDE = 7919  # between the places at which two sequences begin: prime, so that they spread
TOKENS = 1 << 12  # of a batch


class Mode(StrEnum):
    """What is done to a set."""

    ZERO = "zero"
    MEAN = "mean"
    RESAMPLE = "resample"
    AMPLIFY = "amplify"
    PATCH = "patch"


ABLATIONS = (Mode.ZERO, Mode.MEAN, Mode.RESAMPLE)


@dataclass(frozen=True)
class Activity:
    """What all neurons of a model put out on some text.

    Attributes
    ----------
    languages
        Of the text.
    mean
        (language, layer, neuron)
    size
        (layer, neuron) root mean square, every language weighing the same.
    """

    languages: tuple[str, ...]
    mean: Float[np.ndarray, "language layer neuron"]
    size: Float[np.ndarray, "layer neuron"]

    @classmethod
    def of(cls, anatomy: Anatomy, reading: TextReading) -> Activity:
        """Read the text once."""
        seen = _Moments(anatomy, reading)
        _look(anatomy, reading, seen.see)
        return cls(reading.languages, seen.mean(power=1), seen.mean(power=2).mean(0) ** 0.5)


@dataclass(frozen=True)
class Pool:
    """What some neurons put out at a few positions of a text, as many of each language.

    Attributes
    ----------
    members
        Whose outputs are held.
    values
        For each layer (place, member), places in random order.
    """

    members: Members
    values: Sequence[Float[Tensor, "place member"]]

    @classmethod
    def of(cls, anatomy: Anatomy, reading: TextReading, members: Members) -> Pool:
        """Read the text once, keeping these neurons only."""
        seen = _Places(anatomy, reading, members)
        _look(anatomy, reading, seen.see)
        return cls(members, seen.values)

    def of_set(self, members: Members) -> list[Float[Tensor, "place member"]]:
        """Outputs of a set that is within `members`."""
        import torch

        held = [of[kept] for of, kept in zip(members, self.members, strict=True)]
        return [
            values[:, torch.as_tensor(of, device=values.device)]
            for values, of in zip(self.values, held, strict=True)
        ]


@dataclass(frozen=True)
class Change:
    """x ← factor·x + level, for the neurons of a set.

    Attributes
    ----------
    neurons
        For each layer the places of the set's neurons.
    factor
        0 where their own output is of no account.
    levels
        For each layer (place, member); a sequence goes through the places, one position after another. With
        one place the level is the same everywhere.
    """

    neurons: Sequence[Int[Tensor, " member"]]
    factor: float
    levels: Sequence[Float[Tensor, "place member"]]

    def edit(self, rows: Sequence[int]) -> Edit:
        """What to hand to `Anatomy.run` as edit of `Site.NEURON`.

        Parameters
        ----------
        rows
            A number for each sequence of the batch, which decides where among the places it begins: the same
            for the same text, however it is batched.
        """
        import torch

        def edited(layer: int, tensor: Tensor) -> Tensor:
            starts = torch.as_tensor(rows, device=tensor.device) * STRIDE
            at = starts[:, None] + torch.arange(tensor.shape[1], device=tensor.device)
            return self.outputs(layer, tensor, at)

        return edited

    def outputs(
        self, layer: int, tensor: Float[Tensor, "*rows neuron"], places: Int[Tensor, "*rows"] | None = None
    ) -> Float[Tensor, "*rows neuron"]:
        """The outputs of one layer, changed; `places` decides among several levels."""
        chosen, levels = self.neurons[layer], self.levels[layer]
        if not len(chosen):
            return tensor
        level = levels[0] if places is None or len(levels) == 1 else levels[places % len(levels)]
        changed = tensor.clone()
        changed[..., chosen] = (self.factor * tensor[..., chosen] + level).to(tensor.dtype)
        return changed


def change(
    anatomy: Anatomy,
    members: Members,
    mode: Mode,
    *,
    activity: Activity | None = None,
    pool: Pool | None = None,
    language: str | None = None,
) -> Change:
    """What `mode` does to the neurons of a set.

    Parameters
    ----------
    members
        The set: (layer, neuron).
    activity
        For `mean` and `patch`.
    pool
        For `resample`; of these neurons at least.
    language
        For `patch`: whose mean the neurons are set to.

    Raises
    ------
    InputError
        If the shape is not the model's, or what the mode needs is not given.
    """
    import torch

    shape = (anatomy.n_layers, anatomy.d_neurons)
    if members.shape != shape:
        raise InputError(f"a set of shape {members.shape} (layer, neuron); this model's are {shape}")
    neurons = [torch.as_tensor(np.flatnonzero(of_layer), device=anatomy.device) for of_layer in members]
    factor = 2.0 if mode == Mode.AMPLIFY else 0.0
    if mode == Mode.RESAMPLE:
        if pool is None or (members & ~pool.members).any():
            raise InputError("resampling needs outputs to draw from: Pool.of(anatomy, reading, members)")
        return Change(neurons, factor, pool.of_set(members))
    level = np.zeros(shape)
    if mode in (Mode.MEAN, Mode.PATCH):
        level = _level(activity, mode, language)
    constant = torch.as_tensor(level, dtype=torch.float32, device=anatomy.device)
    return Change(neurons, factor, [of[None, which] for of, which in zip(constant, neurons, strict=True)])


def _level(activity: Activity | None, mode: Mode, language: str | None) -> Float[np.ndarray, "layer neuron"]:
    if activity is None:
        raise InputError(f"{mode.value!r} needs what neurons usually put out: Activity.of(anatomy, reading)")
    if mode == Mode.MEAN:
        return activity.mean.mean(0)
    if language not in activity.languages:
        raise InputError(f"cannot patch to {language!r}; the text is in {', '.join(activity.languages)}")
    return activity.mean[activity.languages.index(language)]


@contextmanager
def steered(anatomy: Anatomy, change: Change) -> Iterator[None]:
    """While this lasts, whatever the model does, generation included, it does with the set changed.

    Examples
    --------
    >>> with steered(anatomy, change(anatomy, members, Mode.AMPLIFY)):
    ...     complete(anatomy, tokenizer, items, problems, new_tokens=64)

    Raises
    ------
    InputError
        If the set is resampled, which needs to know the sequence and position it is at.
    """
    if any(len(levels) > 1 for levels in change.levels):
        raise InputError("a set cannot be steered by resampling it; choose another mode")

    def changing(layer: int) -> Any:
        return lambda _module, inputs: (change.outputs(layer, inputs[0]), *inputs[1:])

    handles = [down.register_forward_pre_hook(changing(layer)) for layer, down in enumerate(anatomy.downs)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def nats(
    anatomy: Anatomy, readout: Readout, batch: Batch, edit: Edit | None = None
) -> Float[np.ndarray, " batch"]:
    """Loss of each row of a batch, summed over its predicted tokens, with an edit of its neurons."""
    import torch

    from babelscope.interp.anatomy import Site
    from babelscope.interp.token_loss import token_losses

    seen: list[Tensor] = []
    anatomy.run(
        batch.input_ids,
        see={Site.FINAL: lambda _site, _layer, normed: seen.append(normed)},
        edit={Site.NEURON: edit} if edit else {},
    )
    with torch.no_grad():
        losses = token_losses(readout, seen[0], batch, batch.real[:, 1:])
    return np.array([of_row.sum() for of_row in losses])


def _look(anatomy: Anatomy, reading: TextReading, look: Callable[[int, Tensor, Batch], None]) -> None:
    """Show every layer's neurons on the whole text."""
    from babelscope.interp.anatomy import Site
    from babelscope.interp.batching import batches

    for batch in batches(reading.items, tokens=TOKENS, device=anatomy.device):
        anatomy.run(
            batch.input_ids, see={Site.NEURON: lambda _site, layer, tensor, of=batch: look(layer, tensor, of)}
        )


class _Moments:
    """Sums of activations and of their squares."""

    def __init__(self, anatomy: Anatomy, reading: TextReading):
        self.totals = {
            power: Totals(reading, layers=anatomy.n_layers, neurons=anatomy.d_neurons) for power in (1, 2)
        }

    def see(self, layer: int, tensor: Tensor, batch: Batch) -> None:
        real = batch.real[:, None].float()  # (batch, 1, position)
        activations = tensor.float()
        self.totals[1].add(layer, (real @ activations)[:, 0], batch)
        self.totals[2].add(layer, (real @ activations.square())[:, 0], batch)

    def mean(self, *, power: int) -> Float[np.ndarray, "language layer neuron"]:
        found = self.totals[power].result().sum("block")
        return (found["total"] / found["tokens"]).transpose("language", "layer", "neuron").to_numpy()


class _Places:
    """Activations of some neurons at places drawn from the text, as many in each language."""

    def __init__(self, anatomy: Anatomy, reading: TextReading, members: Members):
        import torch

        rng = np.random.default_rng(0)
        lengths = np.array([len(item.ids) for item in reading.items])
        language = np.repeat(reading.language, lengths)
        each = min(PLACES // len(reading.languages), np.bincount(language).min())
        drawn = [
            rng.choice(np.flatnonzero(language == of), each, replace=False) for of in np.unique(language)
        ]
        order = rng.permutation(np.concatenate(drawn))  # of all positions, one after another
        self.window = np.repeat([item.index for item in reading.items], lengths)[order]
        self.position = np.concatenate([np.arange(length) for length in lengths])[order]
        self.neurons = [torch.as_tensor(np.flatnonzero(of), device=anatomy.device) for of in members]
        self.values = [torch.zeros(len(order), len(of), device=anatomy.device) for of in self.neurons]

    def see(self, layer: int, tensor: Tensor, batch: Batch) -> None:
        import torch

        for row, item in enumerate(batch.items):
            held = torch.as_tensor(np.flatnonzero(self.window == item.index), device=tensor.device)
            at = torch.as_tensor(self.position, device=tensor.device)[held]
            self.values[layer][held] = tensor[row, at][:, self.neurons[layer]].float()
