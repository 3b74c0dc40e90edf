"""Models of which it is known which neurons serve a language, because these were put there by hand.

Text: two languages share most tokens; each has a few of its own, which are a third of what it writes, as `$`,
`;`, `{` and `->` are in PHP. A document has topics, so its tokens are far from independent.

Models: random ones of any family. At chosen neurons of the last layer, where no others read what they write,
the gate reads the language out of the hidden state: the least-squares fit, to text that is used nowhere else,
of +1 at the language's own positions and −1 at the others'. Noise is added to it, and a threshold taken, such
that the neuron fires at 60–90 % of the language's own positions and at 5–30 % of the others'. Llama's gates
have no bias, so the threshold is a direction, too: the fit of a constant. All other weights stay random.

This is the truth for what a neuron does (firing, the size of its output). For what it is *for*, by a
gradient, it is not: all that feeds a planted neuron then has a part in what it does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from babelscope.interp.anatomy import Anatomy
from babelscope.interp.measure import Item
from babelscope.interp.streams import TextReading
from tests.conftest import VOCABULARY, make_model

LANGUAGES = ("python", "php")
LAYERS, WIDTH, NEURONS = 4, 96, 256
PLANTED = 40  # per language
DOCUMENTS, LENGTH = 144, 32  # per language; tokens of each
OWN = 24  # tokens that a language has for itself
SHARE = (0.3, 0.5)  # what a document writes in them
TOPICS = 0.7  # standard deviation of a document's log frequencies
FLAT = 20  # the n-th shared token is as frequent as 1 / (FLAT + n)
STEEP = 5.0  # standard deviation of a planted gate
COMMON = 1.5  # what all embeddings share, as trained ones do; in standard deviations of their entries
OWN_RATE, OTHER_RATE = (0.6, 0.9), (0.05, 0.3)


@dataclass(frozen=True)
class Planted:
    """A model, and which neurons serve which language: (language, layer, neuron)."""

    anatomy: Anatomy
    members: Bool[np.ndarray, "language layer neuron"]


def unplanted(family: str, *, seed: int) -> Anatomy:
    """A random model, in which nothing was put."""
    shape = {"n_layer": LAYERS, "n_embd": WIDTH, "n_inner": NEURONS, "n_positions": LENGTH}
    if family not in ("gpt2", "codegen", "gpt_bigcode"):
        shape = {
            "num_hidden_layers": LAYERS,
            "hidden_size": WIDTH,
            "intermediate_size": NEURONS,
            "max_position_embeddings": LENGTH,
        }
    anatomy = Anatomy(make_model(family, seed=seed, **shape))
    with torch.no_grad():
        embedding = anatomy.model.get_input_embeddings().weight
        embedding += COMMON * embedding.std() * torch.randn(WIDTH)  # after the model's seed
    return anatomy


def plant(family: str, *, seed: int) -> Planted:
    """The same, with `PLANTED` neurons of each language in its last layer."""
    rng = np.random.default_rng(seed)
    anatomy = unplanted(family, seed=seed)
    fitted = text(rng)
    members = np.zeros((len(LANGUAGES), LAYERS, NEURONS), bool)
    inputs = _mlp_inputs(anatomy, fitted)
    chosen = rng.permutation(NEURONS)[: len(LANGUAGES) * PLANTED].reshape(len(LANGUAGES), PLANTED)
    for language, neurons in enumerate(chosen):
        spoken = torch.as_tensor(fitted.language == language).repeat_interleave(LENGTH)
        _set_gates(anatomy, neurons, _readouts(inputs, spoken, rng))
        members[language, -1, neurons] = True
    return Planted(anatomy, members)


def text(rng: np.random.Generator, *, alike: bool = False) -> TextReading:
    """Documents with topics of their own; `alike`: all in one language, whatever they are called."""
    items = []
    for language in np.repeat(np.arange(len(LANGUAGES)), DOCUMENTS):
        own = np.arange(OWN) + OWN * (0 if alike else language)
        shared = np.arange(OWN * len(LANGUAGES), VOCABULARY)
        topics = np.exp(TOPICS * rng.standard_normal(VOCABULARY))
        share = rng.uniform(*SHARE)
        frequency = np.zeros(VOCABULARY)
        frequency[own] = share * topics[own] / topics[own].sum()
        zipf = topics[shared] / (FLAT + np.arange(len(shared)))
        frequency[shared] = (1 - share) * zipf / zipf.sum()
        items.append(Item(rng.choice(VOCABULARY, LENGTH, p=frequency), len(items)))
    documents = np.arange(len(items))
    return TextReading(items, LANGUAGES, documents // DOCUMENTS, documents, np.full(len(items), LENGTH))


def _mlp_inputs(anatomy: Anatomy, reading: TextReading) -> Float[Tensor, "position d_model"]:
    seen: list[Tensor] = []
    handle = anatomy.gates[-1].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    anatomy.run(torch.as_tensor(np.stack([item.ids for item in reading.items])), see={})
    handle.remove()
    return seen[0].reshape(-1, WIDTH).double()


def _readouts(
    inputs: Float[Tensor, "position d_model"], spoken: Bool[Tensor, " position"], rng: np.random.Generator
) -> Float[Tensor, "planted d_model"]:
    """Gates that fire at more of the spoken positions than of the others, to different degrees."""
    wanted = torch.stack([spoken.double() * 2 - 1, torch.ones(len(spoken))], dim=1)
    readout, constant = torch.linalg.lstsq(inputs, wanted).solution.T
    found: list[Tensor] = []
    while len(found) < PLANTED:
        noise = torch.as_tensor(rng.standard_normal(WIDTH))
        gate = readout + noise * rng.uniform(0, 1) * (inputs @ readout).std() / (inputs @ noise).std()
        own_rate = rng.uniform(*OWN_RATE)
        ratio = (inputs @ gate) / (inputs @ constant)
        gate = gate - constant * ratio[spoken].quantile(1 - own_rate)
        fires = inputs @ gate > 0
        rates = [fires[where].double().mean().item() for where in (spoken, ~spoken)]
        if all(low <= rate <= high for rate, (low, high) in zip(rates, (OWN_RATE, OTHER_RATE), strict=True)):
            found.append(gate * STEEP / (inputs @ gate).std())
    return torch.stack(found)


def _set_gates(anatomy: Anatomy, neurons: np.ndarray, gates: Float[Tensor, "planted d_model"]) -> None:
    """Without a bias."""
    module = anatomy.gates[-1]
    with torch.no_grad():
        weight = module.weight.T if isinstance(module, Conv1D) else module.weight
        weight[neurons] = gates.to(weight)
        if module.bias is not None:
            module.bias[neurons] = 0
