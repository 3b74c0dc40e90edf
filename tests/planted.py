"""Models whose working language is known, because it was put there by hand.

A random model of any family is made to pass through chosen states. At the position before the identifier the
output x̂ of the final norm's scaling is wanted with

    V x̂ = chosen logits of the pivot's, the target's and some other token,    |x̂|² = d_model,

where V is the unembedding times the norm's weight. Block by block the output projection of the MLP, the only
weights that are set by hand, is the least-squares solution of

    neurons @ W = wanted state − what the block gives without it

so that attention, embeddings, biases and all earlier blocks stay random, and parallel blocks, gated MLPs and
either orientation of weights need no case of their own. No lens is used: the truth follows from the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import expit
from scipy.stats import norm
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from babelscope.interp.anatomy import Anatomy
from babelscope.interp.batching import batches
from babelscope.interp.measure import Item
from babelscope.interp.streams import PromptReading
from babelscope.interp.working_language import intermediate_layers
from babelscope.probes.identifiers import Probe
from tests.conftest import VOCABULARY, make_model

PIVOT, TARGET = "python", "php"
WIDTH, NEURONS = 64, 256
LOGIT = 2.0  # standard deviation of an unplanned token's logit
IDENTIFIER = 1.5 * LOGIT  # the same, of an identifier's
LEVEL = 4.5 * LOGIT  # logit of the identifier that a state decodes to; of 300 random ones the highest is at 3
STRAGGLERS = 0.15  # of the concepts switch one block earlier than planned, and as many one later
CONCENTRATION = 6.0  # of the Beta distribution of a concept's own share
SPELLING = 0.8  # correlation between the unembeddings of an identifier's spellings


@dataclass(frozen=True)
class Plan:
    """What is planted.

    Attributes
    ----------
    layers, concepts, prompts
        Blocks, concepts, and the fewest and most prompts of a concept.
    switch
        The last layer that decodes to the pivot, in the prompts that use it.
    share
        Expected part of the prompts that decode to the pivot's identifier up to there.
    other
        Part of the remaining ones that decode to neither up to there; the rest decode to the target's.
    strength, noise
        Logit gap between the two identifiers, and its standard deviation: a third of the variance each for
        the concept, the prompt and the cell.
    """

    switch: int
    share: float
    strength: float
    noise: float
    other: float = 0.3
    layers: int = 6
    concepts: int = 8
    prompts: tuple[int, int] = (6, 12)


@dataclass(frozen=True)
class Truth:
    """What a perfect instrument reads with infinitely many concepts and prompts.

    Attributes
    ----------
    count, cells, soft
        Over the intermediate layers: Eq. 1, the pivot's part of all cells, the expected share.
    switch
        The last layer that decodes to the pivot.
    """

    count: float
    cells: float
    soft: float
    switch: int


class Cells(NamedTuple):
    """The plan of one model.

    Attributes
    ----------
    concept
        (prompt,)
    leader
        (layer, prompt) 1 where the pivot's identifier is decoded, −1 the target's, 0 neither's; noise may
        turn the first two round.
    gap
        (layer, prompt) logit of the pivot's identifier minus the target's.
    """

    concept: Int[np.ndarray, " prompt"]
    leader: Int[np.ndarray, "layer prompt"]
    gap: Float[np.ndarray, "layer prompt"]


@dataclass(frozen=True)
class Planted:
    """A model, the prompts it was made for, and what is true of both."""

    anatomy: Anatomy
    reading: PromptReading
    cells: Cells
    truth: Truth


def plant(family: str, plan: Plan, *, seed: int) -> Planted:
    """A random model of `family` that does what `plan` says at the prompts of its reading."""
    rng = np.random.default_rng(seed)
    reading = prompts(plan, rng)
    cells = draw(plan, reading, rng)
    anatomy = unplanted(family, plan, seed=seed)
    with torch.no_grad():
        _name(anatomy, reading)
        _steer(anatomy, reading, _states(anatomy, reading, plan, cells, rng))
    return Planted(anatomy, reading, cells, truth_of(plan))


def unplanted(family: str, plan: Plan, *, seed: int) -> Anatomy:
    """A random model of the same shape, in which nothing was put."""
    shape = {"n_layer": plan.layers, "n_embd": WIDTH, "n_inner": NEURONS}
    if family not in ("gpt2", "codegen", "gpt_bigcode"):
        shape = {
            "num_hidden_layers": plan.layers,
            "hidden_size": WIDTH,
            "intermediate_size": NEURONS,
        }
    anatomy = Anatomy(make_model(family, seed=seed, **shape))
    with torch.no_grad():
        rows = _readout(anatomy)[0].norm(dim=1)
        anatomy.unembed.mul_(LOGIT / rows.square().mean().sqrt())
    return anatomy


def truth_of(plan: Plan) -> Truth:
    """Expectations over concepts, prompts and noise."""
    layer = np.arange(1, plan.layers + 1)
    before = np.select(
        [layer < plan.switch, layer == plan.switch, layer == plan.switch + 1],
        [1.0, 1 - STRAGGLERS, STRAGGLERS],
    )
    z = norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    leads = norm.cdf(plan.strength / plan.noise)
    leaning = expit(plan.strength + plan.noise * z).mean()
    direct, neither = (1 - plan.share) * (1 - plan.other), (1 - plan.share) * plan.other
    pivot = before * (plan.share * leads + direct * (1 - leads)) + (1 - before) * (1 - leads)
    target = before * (plan.share * (1 - leads) + direct * leads) + (1 - before) * leads
    soft = before * (plan.share * leaning + direct * (1 - leaning) + neither / 2) + (1 - before) * (
        1 - leaning
    )
    inner = np.array(intermediate_layers(plan.layers)) - 1
    pivot, target = pivot[inner].mean(), target[inner].mean()
    return Truth(pivot / (pivot + target), pivot, soft[inner].mean(), plan.switch)


def prompts(plan: Plan, rng: np.random.Generator) -> PromptReading:
    """Random tokens in front of identifiers with one to three spellings each."""
    concepts = tuple(f"concept {n}" for n in range(plan.concepts))
    sizes = rng.integers(plan.prompts[0], plan.prompts[1] + 1, plan.concepts)
    of_prompt = np.repeat(np.arange(plan.concepts), sizes)
    lengths = rng.integers(5, 13, len(of_prompt))
    # Where attention and MLP are parallel, the first MLP knows a prompt by its last token only.
    last = rng.permutation(VOCABULARY)[: len(of_prompt)]
    tokens = iter(rng.permutation(VOCABULARY))
    return PromptReading(
        items=[
            Item(np.append(rng.integers(0, VOCABULARY, length - 1), token), n)
            for n, (length, token) in enumerate(zip(lengths, last, strict=True))
        ],
        probes=tuple(Probe(concepts[concept], TARGET, "", f"name {concept}") for concept in of_prompt),
        languages=(PIVOT, TARGET),
        concepts=concepts,
        sets={
            (concept, language): np.sort([next(tokens) for _ in range(rng.integers(1, 4))])
            for concept in concepts
            for language in (PIVOT, TARGET)
        },
        frequency=rng.zipf(1.5, VOCABULARY).clip(0, 10_000),
        dropped=(),
        elsewhere=rng.integers(0, lengths - 1),
    )


def _readout(anatomy: Anatomy) -> tuple[Float[Tensor, "vocab d_model"], Float[Tensor, " vocab"]]:
    """V and c: a state that the final norm scales to x̂ has the logits V x̂ + c."""
    last, unembed = anatomy.final_norm, anatomy.unembed.double()
    constant = torch.zeros(len(unembed), dtype=torch.float64)
    if isinstance(last, nn.LayerNorm):
        constant += unembed @ last.bias.double()
    if anatomy.unembed_bias is not None:
        constant += anatomy.unembed_bias.double()
    return unembed * last.weight.double(), constant


def _name(anatomy: Anatomy, reading: PromptReading) -> None:
    """Unembeddings of identifiers: long ones, alike for one identifier's spellings, as trained ones are."""
    weight = anatomy.final_norm.weight
    for tokens in [*reading.sets.values(), *_unnamed(reading)[:, None]]:
        own = anatomy.unembed[tokens]
        alike = torch.cat([own[:1], SPELLING**0.5 * own[:1] + (1 - SPELLING) ** 0.5 * own[1:]])
        anatomy.unembed[tokens] = alike * IDENTIFIER / (alike * weight).norm(dim=1, keepdim=True)


def _unnamed(reading: PromptReading) -> Int[np.ndarray, " concept"]:
    """For every concept a token that is nobody's identifier."""
    named = np.concatenate(list(reading.sets.values()))
    return np.setdiff1d(np.arange(VOCABULARY), named)[: len(reading.concepts)]


def draw(plan: Plan, reading: PromptReading, rng: np.random.Generator) -> Cells:
    """Who leads in which cell, and by how much."""
    concept = np.array([reading.concepts.index(probe.concept) for probe in reading.probes])
    n, layer = len(concept), np.arange(1, plan.layers + 1)[:, None]
    uses = np.array([_beta(plan.share, rng) for _ in reading.concepts])[concept] > rng.random(n)
    neither = ~uses & (rng.random(n) < plan.other)
    late = rng.choice([-1, 0, 1], plan.concepts, p=[STRAGGLERS, 1 - 2 * STRAGGLERS, STRAGGLERS])
    before = layer <= plan.switch + late[concept]
    leader = np.where(before, np.where(uses, 1, np.where(neither, 0, -1)), -1)
    of_concept, of_prompt, of_cell = (rng.standard_normal(size) for size in (plan.concepts, n, leader.shape))
    gap = leader * plan.strength + plan.noise * (of_concept[concept] + of_prompt + of_cell) / 3**0.5
    return Cells(concept, leader, gap)


def _states(
    anatomy: Anatomy, reading: PromptReading, plan: Plan, cells: Cells, rng: np.random.Generator
) -> Float[Tensor, "layer prompt d_model"]:
    """A planned state after every block at the position before each identifier."""
    concept, leader, gap = cells
    n = len(concept)
    best = np.where(leader == 0, LEVEL - plan.strength - np.abs(gap), LEVEL)
    wanted = np.stack([best + np.minimum(gap, 0), best - np.maximum(gap, 0)], axis=-1)
    matrix, constant = _readout(anatomy)
    centre = isinstance(anatomy.final_norm, nn.LayerNorm)
    # What else a prompt's states hold must not drown what they decode to: the quietest of some.
    codes = torch.as_tensor(rng.standard_normal((20, n, WIDTH)))
    quietest = (codes @ matrix.T).amax(-1).argmin(0)
    wobble = torch.as_tensor(rng.standard_normal((*leader.shape, WIDTH)))
    filler = codes[quietest, torch.arange(n)] + 0.3 * wobble
    states = torch.empty(filler.shape, dtype=torch.float64)
    for number, name in enumerate(reading.concepts):
        sets = [reading.sets[name, language] for language in (PIVOT, TARGET)]
        for nobody in (False, True):
            where = np.nonzero((concept == number) & ((leader == 0) == nobody))
            tokens = np.concatenate([*sets, _unnamed(reading)[number : number + nobody]])
            language = np.repeat([0, 1], [len(members) for members in sets])
            logits = np.concatenate(
                [wanted[where][:, language], np.full((len(where[0]), int(nobody)), LEVEL)], axis=1
            )
            states[where] = _with_logits(
                torch.as_tensor(logits) - constant[tokens], matrix[tokens], filler[where], centre=centre
            )
    if centre:  # LayerNorm takes the mean away, and RMSNorm would not
        states = states + torch.as_tensor(rng.standard_normal((*leader.shape, 1)))
    growth = torch.linspace(1, 2, plan.layers, dtype=torch.float64)
    return growth[:, None, None] * states


def _beta(mean: float, rng: np.random.Generator) -> float:
    return mean if mean in (0, 1) else rng.beta(mean * CONCENTRATION, (1 - mean) * CONCENTRATION)


def _with_logits(
    logits: Float[Tensor, "cell token"],
    matrix: Float[Tensor, "token d_model"],
    filler: Float[Tensor, "cell d_model"],
    *,
    centre: bool,
) -> Float[Tensor, "cell d_model"]:
    """States x̂ of mean square 1 with `matrix` x̂ = `logits`, otherwise in the direction of `filler`."""
    if centre:
        matrix = torch.cat([matrix, torch.ones(1, WIDTH, dtype=matrix.dtype)])
        logits = torch.cat([logits, torch.zeros(len(logits), 1, dtype=logits.dtype)], dim=1)
    inverse = torch.linalg.pinv(matrix)  # (d_model, token)
    least = logits @ inverse.T
    left = WIDTH - least.square().sum(1, keepdim=True)
    assert (left > 0).all(), "these logits need a longer state: plant a lower strength"
    free = filler - filler @ matrix.T @ inverse.T
    return least + free * left.sqrt() / free.norm(dim=1, keepdim=True)


def _steer(anatomy: Anatomy, reading: PromptReading, states: Float[Tensor, "layer prompt d_model"]) -> None:
    """Set each MLP's output projection so that the blocks give `states`, in one forward pass."""
    (batch,) = batches(reading.items, tokens=1 << 20, device=anatomy.device)
    rows, prompt = torch.arange(len(batch.items)), [item.index for item in batch.items]
    neurons: dict[int, Tensor] = {}
    handles = []

    def setting(layer: int) -> Callable[..., Any]:
        down = anatomy.downs[layer]

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            without = output[0] if isinstance(output, tuple) else output
            firing = neurons[layer].reshape(*without.shape[:2], -1)
            missing = states[layer, prompt] - without[rows, batch.last].double()
            solved = torch.linalg.lstsq(firing[rows, batch.last].double(), missing, driver="gelsy").solution
            down.weight.copy_(solved if isinstance(down, Conv1D) else solved.T)
            whole = without + firing @ solved.float()
            return (whole, *output[1:]) if isinstance(output, tuple) else whole

        return hook

    for layer, (block, down) in enumerate(zip(anatomy.blocks, anatomy.downs, strict=True)):
        down.weight.zero_()
        handles.append(
            down.register_forward_pre_hook(
                lambda _module, inputs, layer=layer: neurons.__setitem__(layer, inputs[0])
            )
        )
        handles.append(block.register_forward_hook(setting(layer)))
    anatomy.base(batch.input_ids, use_cache=False)
    for handle in handles:
        handle.remove()
