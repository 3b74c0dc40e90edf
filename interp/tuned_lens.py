"""Tuned lens: affine translators per layer, trained so that its readout agrees with the last block's.

    h'_l = h_l + A_l h_l + b_l          minimise  KL( p_L ‖ softmax(W_U · norm_f(h'_l) + b_U) )

over running text and the full vocabulary, p_L being the model's own output (Belrose et al., "Eliciting
latent predictions from transformers with the tuned lens", arXiv 2303.08112). A_l and b_l begin as the ridge
regression of h_L − h_l on h_l (Din et al., "Jump to conclusions", arXiv 2303.09435), which is closed and
already near; a fixed number of Adam steps follows, with a rate that falls to nothing. There is no
stopping rule to tune: documents that are held out only say how well it went.

Being trained to agree with the output, the tuned lens may erase what a middle layer decodes to: see
docs/lens.md. `lens.TunedLens` applies the translators, and to no other model than their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import xarray as xr

from babelscope.core.errors import InputError
from babelscope.core.stats import bootstrap_mean, percentile_interval
from babelscope.interp.measure import UNDIVIDED, Drive, Item
from babelscope.interp.streams import TextReading, TextStream

if TYPE_CHECKING:
    from jaxtyping import Bool

    from babelscope.interp.anatomy import Anatomy

HELD_OUT = 4  # every fourth document of a language, from the second on, is not trained on
POSITIONS = 1 << 13  # trained on, at most; a quarter as many are held out
RIDGE = 1e-3  # of the mean variance of a state's components
STEPS = 100
BATCH = 256  # positions of a step
RATE = 1e-3  # of Adam's first step, in units of the states; falls linearly to 0
SEED = 0


class TunedTranslators(Drive[TextReading]):
    """Translators of every layer but the last, and how well they do on documents they were not trained on.

    Result: `weight` (layer, output, input) and `bias` (layer, output) in float32, whatever the model's type;
    `model`, which names the weights they belong to; `kl_logit` and `kl_tuned` (layer, document), the mean
    divergence in nats of the last block's distribution from that of either lens, over the `positions` of each
    held-out document.

    Parameters
    ----------
    stream
        Running text, at least two documents of each language.
    """

    name: ClassVar[str] = "tuned_lens"
    version: ClassVar[int] = 1
    shard_tokens = UNDIVIDED

    def __init__(self, stream: TextStream):
        self.stream = stream

    @property
    def config(self) -> dict[str, Any]:
        return {
            "held_out": HELD_OUT,
            "positions": POSITIONS,
            "ridge": RIDGE,
            "steps": STEPS,
            "batch": BATCH,
            "rate": RATE,
            "seed": SEED,
        }

    def drive(
        self, anatomy: Anatomy, tokenizer: Any, reading: TextReading, shard: Sequence[Item]
    ) -> xr.Dataset:
        from babelscope.interp.lens import model_digest
        from babelscope.interp.translators import divergences, fitted, sampled

        if anatomy.n_layers < 2:
            raise InputError("a model of one layer has no layer to translate: use the logit lens")
        held_out = held_out_documents(reading)[reading.document]
        rng = np.random.default_rng(SEED)
        trained = sampled(anatomy, [i for i in shard if not held_out[i.index]], POSITIONS, rng)
        tested = sampled(anatomy, [i for i in shard if held_out[i.index]], POSITIONS // HELD_OUT, rng)
        weight, bias = fitted(anatomy, trained.states, rng)
        documents, which = np.unique(reading.document[tested.items], return_inverse=True)
        positions = np.bincount(which)

        def apart(scale: int) -> np.ndarray:
            """By layer and document; translators that are 0 make the logit lens."""
            by_row = divergences(anatomy, tested.states, scale * weight, scale * bias)
            return np.stack([np.bincount(which, row) / positions for row in by_row])

        cell = ("layer", "document")
        language = [reading.languages[reading.language[reading.document == d][0]] for d in documents]
        return xr.Dataset(
            {
                "weight": (("layer", "output", "input"), weight.cpu().numpy()),
                "bias": (("layer", "output"), bias.cpu().numpy()),
                "model": model_digest(anatomy),
                "kl_logit": (cell, apart(0)),
                "kl_tuned": (cell, apart(1)),
                "positions": ("document", positions),
            },
            coords={
                "layer": np.arange(1, anatomy.n_layers),
                "document": documents,
                "language": ("document", language),
            },
        )

    def combine(self, parts: Sequence[xr.Dataset], reading: TextReading) -> xr.Dataset:
        (whole,) = parts
        return whole


def held_out_documents(reading: TextReading) -> Bool[np.ndarray, " document"]:
    """Which documents translators are not trained on: of each language the second, sixth, tenth …

    Raises
    ------
    InputError
        If a language has a single document.
    """
    held_out = np.zeros(reading.document.max() + 1, dtype=bool)
    for which, language in enumerate(reading.languages):
        documents = np.unique(reading.document[reading.language == which])
        if len(documents) < 2:
            raise InputError(
                f"the tuned lens is trained on some documents and tried on others, and the text of "
                f"{language!r} that is read is one; give at least two, or more tokens"
            )
        held_out[documents[1::HELD_OUT]] = True
    return held_out


def agreement(found: xr.Dataset) -> pd.DataFrame:
    """How far either lens is from the model's output, by layer, with 95 % intervals over documents.

    Parameters
    ----------
    found
        Of `TunedTranslators`, for one checkpoint.

    Returns
    -------
    pd.DataFrame
        `layer`; `logit` and `tuned`, KL in nats per held-out position; `difference`, tuned − logit, of the
        same documents; and `_low` and `_high` of each.
    """
    logit = found["kl_logit"].transpose("document", "layer").to_numpy()
    tuned = found["kl_tuned"].transpose("document", "layer").to_numpy()
    weights = found["positions"].to_numpy()
    columns: dict[str, np.ndarray] = {"layer": found["layer"].to_numpy()}
    for name, values in (("logit", logit), ("tuned", tuned), ("difference", tuned - logit)):
        interval = percentile_interval(bootstrap_mean(values, weights=weights))
        columns[name] = np.average(values, axis=0, weights=weights)
        columns[f"{name}_low"], columns[f"{name}_high"] = interval.T
    return pd.DataFrame(columns)
