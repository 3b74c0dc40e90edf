"""How much worse a language would be predicted without a neuron, to first order.

    total[language, block, layer, neuron] = − Σ_t a_t · ∂L/∂a_t

with a_t the neuron's output at position t and L the summed negative log-likelihood, in nats, of the
language's held-out text: the linear term of L(a = 0) − L(a). Above 0 the neuron helps the language. One
position's activation counts with what it does to the losses of later ones.

Gradient × activation is exact where the loss is linear in the neuron, and wrong where it saturates or where
effects cancel; so it is held against exact ablation before it is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import xarray as xr

from babelscope.interp.measure import Drive, Item
from babelscope.interp.neuron_totals import TextTotals, Totals
from babelscope.interp.streams import TextReading

if TYPE_CHECKING:
    from babelscope.interp.anatomy import Anatomy


class GradientAttribution(TextTotals, Drive[TextReading]):
    """First-order loss, in nats, that a language's text owes to each neuron: `total` and `tokens`."""

    name: ClassVar[str] = "gradient_attribution"
    version: ClassVar[int] = 1
    random_init: ClassVar[bool] = True

    def drive(
        self, anatomy: Anatomy, tokenizer: Any, reading: TextReading, shard: Sequence[Item]
    ) -> xr.Dataset:
        from babelscope.interp.batching import batches
        from babelscope.interp.lens import Readout
        from babelscope.interp.neuron_gradients import TOKENS, gradient_times_activation
        from babelscope.interp.token_loss import loss_gradient

        readout = Readout(anatomy)
        totals = Totals(reading, layers=anatomy.n_layers, neurons=anatomy.d_neurons)
        for batch in batches(shard, tokens=TOKENS, device=anatomy.device):
            gradient_times_activation(
                anatomy,
                batch.input_ids,
                slope=lambda final, batch=batch: loss_gradient(readout, final, batch),
                take=lambda layer, rows, batch=batch: totals.add(layer, -rows, batch),
            )
        return totals.result()
