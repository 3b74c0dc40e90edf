"""Which layers tell the language of a position: linear probes on stored activations, position by position.

Stored is at which positions a probe is right in files that it was not fitted to, so that intervals over
files, over steps and against the random model can all be taken from the same positions. `probes.linear`
says why accuracy alone would mislead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from babelscope.core.errors import InputError
from babelscope.interp.activations import Activations
from babelscope.interp.measure import Derive
from babelscope.interp.streams import TextReading
from babelscope.probes.linear import (
    FOLDS,
    C,
    Fold,
    Labels,
    control_labels,
    majority_by_token,
    matched_by_token,
    out_of_fold,
    permuted_between_files,
    split_by_file,
)

CONTROLS = 3  # draws of the control task
PERMUTATIONS = 9  # of languages between files: to lie above all of them has a chance of 1 in 10


class LanguageProbes(Derive[TextReading]):
    """At which positions linear probes tell the language, layer by layer.

    Result, see `language_identity`. Text that cannot be probed (too few files) must not keep a sweep from
    what else it measures: the result then holds the reason alone, as the attribute `refused`.

    Parameters
    ----------
    source
        The sampled activations.
    """

    name: ClassVar[str] = "language_identity"
    version: ClassVar[int] = 1

    def __init__(self, source: Activations):
        self.source = source
        self.stream = source.stream

    @property
    def config(self) -> dict[str, Any]:
        return self.source.config | {
            "C": C,
            "folds": FOLDS,
            "controls": CONTROLS,
            "permutations": PERMUTATIONS,
        }

    def check(self) -> None:
        """Nothing is asked of this machine."""

    def derive(self, found: xr.Dataset, *, advance: Callable[[int], None]) -> xr.Dataset:
        try:
            result = language_identity(found)
        except InputError as error:
            result = xr.Dataset(attrs={"refused": str(error)})
        advance(int(found.attrs["windows"]))
        return result


def language_identity(found: xr.Dataset, *, permutations: int = PERMUTATIONS) -> xr.Dataset:
    """Fit and try the probes of every layer.

    Parameters
    ----------
    found
        Result of `Activations`.
    permutations
        Of languages between files; the random model, which is a null itself, needs none.

    Returns
    -------
    Dataset
        `correct` (layer, position): the probe is right; `control`: the same for control tasks, as a share of
        `CONTROLS` draws; `by_token` (position): expected for the token's majority language; `matched`
        (position): of the choice in which the token tells nothing; `matched_correct` (layer, position): a
        probe fitted and tried within that choice is right, False outside it; `permuted` (layer, permutation):
        accuracy of that probe with languages permuted between files. `language` and `document` by position.

    Raises
    ------
    InputError
        If a language has fewer than `FOLDS` files, in all or in the matched choice.
    """
    tokens, files = found["token"].to_numpy(), found["document"].to_numpy()
    language = found["language"].to_numpy().astype(str)
    activation = found["activation"].transpose("layer", "position", "d_model").to_numpy()
    rng = np.random.default_rng(0)
    matched = matched_by_token(tokens, language, rng=rng)
    folds = split_by_file(language, files)
    within = split_by_file(language[matched], files[matched])
    controls = [control_labels(tokens, language, rng=rng) for _ in range(CONTROLS)]
    permuted = [
        permuted_between_files(language[matched], files[matched], rng=rng) for _ in range(permutations)
    ]
    inside = activation[:, matched]
    matched_correct = np.zeros(activation.shape[:2], bool)
    matched_correct[:, matched] = [_right(h, language[matched], within) for h in inside]
    by_position, cell = "position", ("layer", "position")
    return xr.Dataset(
        {
            "correct": (cell, [_right(h, language, folds) for h in activation]),
            "control": (
                cell,
                [np.mean([_right(h, task, folds) for task in controls], axis=0) for h in activation],
            ),
            "by_token": (by_position, majority_by_token(tokens, language, folds)),
            "matched": (by_position, matched),
            "matched_correct": (cell, matched_correct),
            "permuted": (
                ("layer", "permutation"),
                [[_right(h, task, within).mean() for task in permuted] for h in inside],
            ),
        },
        coords={
            "layer": found["layer"].to_numpy(),
            "language": (by_position, language),
            "document": (by_position, files),
        },
    )


def _right(
    activations: Float[np.ndarray, "position d_model"], task: Labels, folds: Sequence[Fold]
) -> Bool[np.ndarray, " position"]:
    return out_of_fold(activations, task, folds) == task
