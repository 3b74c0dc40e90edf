"""Batches for observation: sorted by length, padded on the right.

Right padding is exact for causal models even without a mask, since no real position attends to a
later one; left padding without position ids is silently wrong for GPT-2 and GPTBigCode. Sorting by
length wastes little on padding. The order of items never shows in a result: results go by index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from babelscope.interp.measure import Item


@dataclass(frozen=True)
class Batch:
    """Sequences of similar length.

    Attributes
    ----------
    input_ids
        (batch, position), right-padded.
    real
        (batch, position), False at padding.
    items
        The item behind each row.
    """

    input_ids: Int[Tensor, "batch position"]
    real: Bool[Tensor, "batch position"]
    items: Sequence[Item]

    @property
    def last(self) -> Int[Tensor, " batch"]:
        """Last real position of each row."""
        return self.real.sum(-1) - 1


def batches(items: Sequence[Item], *, tokens: int, device: torch.device) -> Iterator[Batch]:
    """Batches of at most `tokens` padded tokens each (at least one sequence), longest first.

    Longest first, so that a batch that does not fit in memory fails at once.
    """
    waiting = sorted(items, key=lambda item: (-len(item.ids), item.index))
    while waiting:
        rows = max(1, tokens // len(waiting[0].ids))
        taken, waiting = waiting[:rows], waiting[rows:]
        width = len(taken[0].ids)
        # Padding repeats a row's last token: it is never looked at, and a pad id would look like a mistake.
        input_ids = torch.zeros(len(taken), width, dtype=torch.long)
        real = torch.zeros(len(taken), width, dtype=torch.bool)
        for row, item in enumerate(taken):
            input_ids[row] = int(item.ids[-1])
            input_ids[row, : len(item.ids)] = torch.as_tensor(item.ids, dtype=torch.long)
            real[row, : len(item.ids)] = True
        yield Batch(input_ids.to(device), real.to(device), taken)
