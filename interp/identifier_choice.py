"""Which of two languages' identifiers a model chooses, where the target's is due.

    log-odds = log-mean-exp of the logits of the pivot's set − the same of the target's set

as in `working_language`; `right` is the probability of the target's set in the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from babelscope.interp.directions import contrasted
from babelscope.interp.measure import Item
from babelscope.interp.streams import PromptReading

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Edit
    from babelscope.interp.batching import Batch


def asked(reading: PromptReading, shard: Sequence[Item], *, pivot: str, target: str) -> list[Item]:
    """The target's prompts whose identifier the pivot names apart."""
    concepts = contrasted(reading, pivot=pivot, target=target)
    probes = [(item, reading.probes[item.index]) for item in shard]
    return [item for item, probe in probes if probe.language == target and probe.concept in concepts]


class IdentifierChoice:
    """Reads the choice off the last position of prompts.

    Parameters
    ----------
    anatomy
        The model.
    reading
        Whose items are read.
    pivot, target
        Between whose identifiers the choice is.
    """

    def __init__(self, anatomy: Anatomy, reading: PromptReading, *, pivot: str, target: str):
        from babelscope.interp.lens import Readout

        self.anatomy, self.readout, self.reading = anatomy, Readout(anatomy), reading
        self.languages = (pivot, target)

    def last(self, batch: Batch, edit: Edit | None = None) -> Float[Tensor, "batch d_model"]:
        """What the unembedding reads at the last position of each row, with an edit of the neurons."""
        import torch

        from babelscope.interp.anatomy import Site

        seen: list[Tensor] = []
        rows = torch.arange(len(batch.items), device=batch.real.device)
        self.anatomy.run(
            batch.input_ids,
            see={Site.FINAL: lambda _site, _layer, normed: seen.append(normed[rows, batch.last])},
            edit={Site.NEURON: edit} if edit else {},
        )
        return seen[0]

    def log_odds(
        self, normed: Float[Tensor, "row d_model"], items: Sequence[Item]
    ) -> Float[np.ndarray, " row"]:
        """Of the pivot's identifier against the target's."""
        import torch

        from babelscope.interp.lens import log_mean_exp

        found = np.empty(len(items))
        for rows, *logits in self._by_concept(normed, items):
            pivot, target = (log_mean_exp(of, torch.arange(of.shape[1], device=of.device)) for of in logits)
            found[rows] = (pivot - target).cpu().numpy()
        return found

    def right(self, normed: Float[Tensor, "row d_model"], items: Sequence[Item]) -> Float[np.ndarray, " row"]:
        """Probability of the target's identifiers."""
        from babelscope.interp.survey import survey

        normaliser = survey(self.readout, normed).normaliser
        found = np.empty(len(items))
        for rows, _, target in self._by_concept(normed, items):
            found[rows] = (target.logsumexp(-1) - normaliser[rows]).exp().cpu().numpy()
        return found

    def _by_concept(
        self, normed: Float[Tensor, "row d_model"], items: Sequence[Item]
    ) -> Iterator[tuple[np.ndarray, Float[Tensor, "some pivot"], Float[Tensor, "some target"]]]:
        """Rows of one concept after another, with the logits of its two sets."""
        import torch

        concepts = np.array([self.reading.probes[item.index].concept for item in items])
        for concept in dict.fromkeys(concepts.tolist()):
            rows = np.flatnonzero(concepts == concept)
            sets = [self.reading.sets[concept, language] for language in self.languages]
            tokens = torch.as_tensor(np.concatenate(sets), device=normed.device)
            logits = self.readout.logits(normed[rows], tokens=tokens)
            yield rows, logits[:, : len(sets[0])], logits[:, len(sets[0]) :]
