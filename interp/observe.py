"""One forward pass, many observers: the union of their hooks, each tensor shown once to each."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from torch import Tensor

from babelscope.interp.anatomy import Anatomy, Site
from babelscope.interp.batching import Batch, batches
from babelscope.interp.measure import Item, Observer


def observe(
    anatomy: Anatomy, items: Sequence[Item], observers: Sequence[tuple[Set[str], Observer]], *, tokens: int
) -> None:
    """Read `items` in batches of at most `tokens` tokens, showing each observer the sites it named."""
    if not observers:
        return
    at_site = {site: [o for sites, o in observers if site in sites] for site in Site}

    def showing(batch: Batch, looking: Sequence[Observer]) -> Callable[[Site, int, Tensor], None]:
        def see(site: Site, layer: int, tensor: Tensor) -> None:
            for observer in looking:
                observer.see(site, layer, tensor, batch)

        return see

    for batch in batches(items, tokens=tokens, device=anatomy.device):
        see = {site: showing(batch, looking) for site, looking in at_site.items() if looking}
        anatomy.run(batch.input_ids, see=see)
