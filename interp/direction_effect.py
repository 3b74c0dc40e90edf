"""What the pivot−target direction of one layer does to the identifier that the model chooses in the end.

The lens observes; this changes what is observed. Right before the target's identifier of concept c, after
block l, the coefficient along the lens's direction u (`directions`) is set to another value, and the later
blocks run on from there:

    h_l ← h_l + δ·u,   δ = level_l − ⟨h_l, u⟩

    ablate    level: the mean coefficient where other concepts' identifiers are due, in the pivot's and
              in the target's prompts, each language weighing one half: a layer that prefers neither
    patch     level: the mean coefficient of the pivot's prompts of the same concept: as in pivot code

The level of `ablate` is a mean and not zero (Wang et al., arXiv 2211.00593): zero is a value like any other
along a direction on which all states share an offset. Both languages enter it alike; otherwise it would say
what one of them says.

Log-odds of pivot against target are those of log-mean-exp over each set's logits, as in `working_language`.
Adding δ·u moves them even if no later block reads u, since blocks only add to the residual stream. So the
change is taken apart (direct and indirect effect: Pearl, UAI 2001; in residual streams McGrath et al.,
arXiv 2307.15771):

    direct     the later blocks write what they wrote before: the readout of h_L + δ·u, norm included
    mediated   the rest: what later blocks make of it. Of the same sign: they read the direction and add
               to it; of the other: they repair

After the last block everything is direct, by construction: that is the ceiling of what one layer can do.

The null is the same change δ along directions made the same way from random tokens of like frequency
(`working_language.matched_sets`), in the same model. A random model is none: its log-odds are next to zero,
so that nothing moves them far and anything flips them.

Only the last position changes, so only that position's later states do: the prompt's beginning runs once, and
its keys and values serve every layer, intervention and direction.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import xarray as xr

from babelscope.interp.directions import DirectionCoefficients, contrasted, directions
from babelscope.interp.measure import Drive, Item
from babelscope.interp.streams import PromptReading, PromptStream
from babelscope.interp.working_language import DRAWS, NEIGHBOURS, intermediate_layers, matched_sets

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformers import Cache

    from babelscope.interp.anatomy import Anatomy

INTERVENTIONS = ("ablate", "patch")
CHANGED = ("after", "right_after", "direct")  # found along the direction and along random ones
TOKENS = 1 << 14  # of all copies of a prompt that are changed at once: their keys and values are held


class DirectionEffect(Drive[PromptReading]):
    """Log-odds and probability of the identifier, before and after one layer is changed.

    Result, by prompt of the target: `before` (log-odds of pivot against target) and `right_before`
    (probability of the target's identifiers); by intervention and layer besides: `shift` (δ), `after` and
    `direct` (log-odds) and `right_after`; the same along random directions: `null_after` and so on.

    Parameters
    ----------
    stream
        Identifier probes, the pivot's and the target's among them.
    pivot, target
        Prompts are the target's.
    """

    name: ClassVar[str] = "direction_effect"
    version: ClassVar[int] = 2

    def __init__(self, stream: PromptStream, *, pivot: str, target: str):
        self.stream = stream
        self.pivot, self.target = pivot, target
        self.needs = DirectionCoefficients(stream, pivot=pivot, target=target)
        self.levels: dict[str, Float[np.ndarray, "intervention layer"]] = {}

    @property
    def config(self) -> dict[str, Any]:
        return {"pivot": self.pivot, "target": self.target, "draws": DRAWS, "neighbours": NEIGHBOURS}

    def using(self, found: xr.Dataset) -> Self:
        """With the levels that coefficients are set to."""
        ready = copy.copy(self)
        ready.levels = levels(found["coefficient"], pivot=self.pivot, target=self.target)
        return ready

    def drive(
        self, anatomy: Anatomy, tokenizer: Any, reading: PromptReading, shard: Sequence[Item]
    ) -> xr.Dataset:
        concepts = contrasted(reading, pivot=self.pivot, target=self.target)
        probes = [(item, reading.probes[item.index]) for item in shard]
        asked = [
            (item, p.concept) for item, p in probes if p.language == self.target and p.concept in concepts
        ]
        changing, random = _Changing(anatomy), matched_sets(reading)
        units: dict[str, Tensor] = {}
        for concept in {concept for _, concept in asked}:
            keys = (concept, self.pivot), (concept, self.target)
            own, drawn = (tuple(sets[key] for key in keys) for sets in (reading.sets, random))
            units[concept] = directions(anatomy, [own, *zip(*drawn, strict=True)])
        found = [
            changing.effects(
                item.ids,
                units[concept],
                levels=self.levels[concept],
                pivot=reading.sets[concept, self.pivot],
                target=reading.sets[concept, self.target],
            )
            for item, concept in asked
        ]
        return _dataset(found, prompts=[item.index for item, _ in asked], layers=anatomy.n_layers)

    def combine(self, parts: Sequence[xr.Dataset], reading: PromptReading) -> xr.Dataset:
        """By the target's prompts, with their concepts; `null_*` have a `draw` more."""
        whole = xr.concat(parts, dim="prompt").sortby("prompt")
        concepts = [reading.probes[prompt].concept for prompt in whole["prompt"].to_numpy()]
        return whole.assign_coords(concept=("prompt", concepts)).assign_attrs(
            intermediate=list(intermediate_layers(whole.sizes["layer"])), dropped=list(reading.dropped)
        )


def levels(
    coefficient: xr.DataArray, *, pivot: str, target: str
) -> dict[str, Float[np.ndarray, "intervention layer"]]:
    """What each concept's coefficient is set to, by intervention and layer.

    Parameters
    ----------
    coefficient
        Of `DirectionCoefficients`.
    """
    spoken, concept = (coefficient[name].to_numpy() for name in ("spoken", "concept"))
    values = coefficient.transpose("direction", "layer", "prompt").to_numpy()
    found = {}
    for name, along in zip(coefficient["direction"].to_numpy().tolist(), values, strict=True):
        other = np.isin(concept, coefficient["direction"]) & (concept != name)
        neutral = [along[:, other & (spoken == language)].mean(-1) for language in (pivot, target)]
        own = along[:, (concept == name) & (spoken == pivot)].mean(-1)
        found[name] = np.stack([np.mean(neutral, axis=0), own])
    return found


class _Changing:
    """Runs one prompt's last token with one layer changed, in every wanted way."""

    def __init__(self, anatomy: Anatomy):
        from babelscope.interp.lens import Readout

        self.anatomy, self.readout = anatomy, Readout(anatomy)

    def effects(
        self,
        ids: np.ndarray,
        units: Float[Tensor, "direction d_model"],
        *,
        levels: Float[np.ndarray, "intervention layer"],
        pivot: np.ndarray,
        target: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """`CHANGED` by (intervention, layer, direction), `shift` by (intervention, layer), and before.

        The first direction is the one whose coefficient is set; the others are moved along as far.
        """
        import torch

        with torch.no_grad():
            past, last = self._past(ids), int(ids[-1])
            states, before = self._states(past, last)
            shift = torch.as_tensor(levels, device=states.device) - states.float() @ units[0]
            changes = shift[:, :, None, None] * units  # (intervention, layer, direction, d_model)
            direct = self.anatomy.final_norm(states[-1] + changes.to(states.dtype))
            after = self._after(past, last, changes, rows=max(1, TOKENS // len(ids)))
            found = {"shift": shift.cpu().numpy()}
            for name, normed in (("before", before), ("after", after), ("direct", direct)):
                found[name], strength = self._odds(normed, pivot, target)
                if name != "direct":
                    found[f"right_{name}"] = self._probability(normed, strength)
        return found

    def _past(self, ids: np.ndarray) -> Cache:
        """Keys and values of all but the last token."""
        import torch
        from transformers import DynamicCache

        past = DynamicCache(config=self.anatomy.model.config)
        if len(ids) > 1:
            self.anatomy.run(torch.as_tensor(ids[None, :-1], device=self.anatomy.device), see={}, past=past)
        return past

    def _states(
        self, past: Cache, last: int
    ) -> tuple[Float[Tensor, "layer d_model"], Float[Tensor, " d_model"]]:
        """Block outputs at the last token, and the last of them as the unembedding reads it."""
        import torch

        from babelscope.interp.anatomy import Site

        seen: dict[Site, list[Tensor]] = {Site.RESIDUAL: [], Site.FINAL: []}
        self.anatomy.run(
            torch.tensor([[last]], device=self.anatomy.device),
            see=dict.fromkeys(seen, lambda site, _layer, hidden: seen[site].append(hidden[0, -1])),
            past=copy.deepcopy(past),
        )
        return torch.stack(seen[Site.RESIDUAL]), seen[Site.FINAL][0]

    def _after(
        self,
        past: Cache,
        last: int,
        changes: Float[Tensor, "intervention layer direction d_model"],
        *,
        rows: int,
    ) -> Float[Tensor, "intervention layer direction d_model"]:
        """What the unembedding reads once each change has been made at its layer, `rows` at a time."""
        import torch

        layers = torch.arange(1, changes.shape[1] + 1, device=changes.device)
        at = layers[None, :, None].expand(changes.shape[:-1]).flatten()
        some = zip(changes.flatten(0, 2).split(rows), at.split(rows), strict=True)
        return torch.cat([self._changed(past, last, *chosen) for chosen in some]).reshape(changes.shape)

    def _changed(
        self, past: Cache, last: int, changes: Float[Tensor, "row d_model"], at: Int[Tensor, " row"]
    ) -> Float[Tensor, "row d_model"]:
        """As `_after`, a change and its layer for each row."""
        import torch

        from babelscope.interp.anatomy import Site

        def edit(layer: int, hidden: Tensor) -> Tensor:
            return hidden + torch.where((at == layer)[:, None], changes, 0.0).to(hidden.dtype)[:, None]

        read: list[Tensor] = []
        copies = copy.deepcopy(past)
        copies.batch_repeat_interleave(len(at))
        self.anatomy.run(
            torch.full((len(at), 1), last, device=self.anatomy.device),
            see={Site.FINAL: lambda _site, _layer, normed: read.append(normed[:, -1])},
            edit={Site.RESIDUAL: edit},
            past=copies,
        )
        return read[0]

    def _odds(
        self, normed: Float[Tensor, "*rows d_model"], pivot: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, Float[Tensor, "*rows"]]:
        """Log-odds of pivot against target, and the log-sum-exp of the target's logits."""
        import torch

        from babelscope.interp.lens import log_mean_exp

        rows = normed.reshape(-1, normed.shape[-1])
        tokens = torch.as_tensor(np.concatenate([pivot, target]), device=rows.device)
        logits = self.readout.logits(rows, tokens=tokens)
        places = torch.arange(len(tokens), device=rows.device)
        odds = log_mean_exp(logits, places[: len(pivot)]) - log_mean_exp(logits, places[len(pivot) :])
        strength = logits[:, len(pivot) :].logsumexp(-1)
        return odds.reshape(normed.shape[:-1]).cpu().numpy(), strength.reshape(normed.shape[:-1])

    def _probability(
        self, normed: Float[Tensor, "*rows d_model"], strength: Float[Tensor, "*rows"]
    ) -> np.ndarray:
        """Of tokens whose logits have this log-sum-exp, among the whole vocabulary."""
        from babelscope.interp.survey import survey

        normaliser = survey(self.readout, normed.reshape(-1, normed.shape[-1])).normaliser
        return (strength - normaliser.reshape(strength.shape)).exp().cpu().numpy()


def _dataset(found: Sequence[dict[str, np.ndarray]], *, prompts: Sequence[int], layers: int) -> xr.Dataset:
    """Prompts' effects side by side; a shard may hold none of the target's."""
    cell = ("intervention", "layer", "prompt")
    changed = (len(INTERVENTIONS), layers)

    def stacked(name: str, shape: tuple[int, ...]) -> Float[np.ndarray, "*shape prompt"]:
        values = np.array([of[name] for of in found], np.float32).reshape(len(found), *shape)
        return np.moveaxis(values, 0, -1)

    data: dict[str, Any] = {name: ("prompt", stacked(name, ())) for name in ("before", "right_before")}
    data["shift"] = cell, stacked("shift", changed)
    for name in CHANGED:
        values = stacked(name, (*changed, 1 + DRAWS))
        data[name] = cell, values[:, :, 0]
        data[f"null_{name}"] = ("intervention", "layer", "draw", "prompt"), values[:, :, 1:]
    return xr.Dataset(
        data,
        coords={
            "intervention": list(INTERVENTIONS),
            "layer": np.arange(1, layers + 1),
            "prompt": np.array(prompts, int),
        },
    )
