"""What measures that read states through a lens have in common: which lens."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Self

import xarray as xr

from babelscope.interp.measure import Observe, R
from babelscope.interp.tuned_lens import TunedTranslators

if TYPE_CHECKING:
    from babelscope.interp.anatomy import Anatomy
    from babelscope.interp.lens import LogitLens


class LensMeasure(Observe[R]):
    """A measure that looks at states through the logit lens, or the tuned one where it has translators.

    Parameters
    ----------
    translators
        Of the tuned lens; the logit lens is used without.
    """

    def __init__(self, translators: TunedTranslators | None):
        self.needs = translators
        self._found: xr.Dataset | None = None

    def using(self, found: xr.Dataset) -> Self:
        """With the translators of the model that is read."""
        ready = copy.copy(self)
        ready._found = found
        return ready

    @property
    def lens_name(self) -> str:
        return "tuned" if self.needs else "logit"

    def lens(self, anatomy: Anatomy) -> LogitLens:
        """What this model's states are read with."""
        from babelscope.interp.lens import LogitLens, TunedLens

        if self.needs and self._found is None:
            raise ValueError("translators are needed, and `using` was not called with them")
        return LogitLens(anatomy) if self._found is None else TunedLens(anatomy, self._found)
