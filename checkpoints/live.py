"""One model in memory whose weights are swapped from checkpoint to checkpoint.

Loading goes through `from_pretrained`, which knows every renaming between disk and memory (GPT-NeoX's
unembedding is `embed_out` on disk and `lm_head` in memory: a hand-made `load_state_dict(strict=False)`
silently keeps the old one), and the copy is strict between equal classes.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from babelscope.checkpoints.series import Checkpoint, Series
from babelscope.core.errors import InputError
from babelscope.interp.anatomy import Anatomy


class LiveModel:
    """A series' model.

    Parameters
    ----------
    series
        Whose checkpoints are loaded.
    dtype
        Of the weights in memory.
    device
        Where it lives; default: the first GPU if there is one.
    """

    def __init__(self, series: Series, *, dtype: torch.dtype = torch.float32, device: str | None = None):
        self.series = series
        self.dtype = dtype
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._anatomy: Anatomy | None = None

    def at(self, checkpoint: Checkpoint) -> Anatomy:
        """The model with this checkpoint's weights; the one handed out before changes with it."""
        fresh = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=self.dtype, local_files_only=True)
        return self._swap(fresh, what=checkpoint.path.name)

    def at_random(self, seed: int) -> Anatomy:
        """The model as it might have been initialised: the null of every measure."""
        config = AutoConfig.from_pretrained(self.series.checkpoints[0].path, local_files_only=True)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            fresh = AutoModelForCausalLM.from_config(config, dtype=self.dtype)
        return self._swap(fresh, what=f"random initialisation {seed}")

    def _swap(self, fresh: Any, *, what: str) -> Anatomy:
        broken = [name for name, value in fresh.named_parameters() if not value.isfinite().all()]
        if broken:
            raise InputError(f"{what} has non-finite weights: {', '.join(broken[:3])}")
        if self._anatomy is None:
            self._anatomy = Anatomy(fresh.to(self.device).eval())
        else:
            self._anatomy.model.load_state_dict(fresh.state_dict(), strict=True)
        return self._anatomy
