"""One model in memory whose weights are swapped from checkpoint to checkpoint, and known to be those on disk.

The first checkpoint of a layout is opened by `from_pretrained`, which knows every renaming between disk and
memory (GPT-NeoX's unembedding is `embed_out` on disk and `lm_head` in memory: a hand-made
`load_state_dict(strict=False)` silently keeps the old one). What it did is then read off: a mapping from
tensors on disk to entries of the model's state, in which every entry is filled once and equals its tensor
exactly (`mapping.py`). The others are copied along that mapping, straight from disk into the parameters,
which costs little more than reading them. Where there is no such mapping, every checkpoint goes through
`from_pretrained`, and a strict copy between equal classes.

The next checkpoint is meanwhile read into CPU memory by a thread. `from_pretrained` never runs there: it sets
torch's default dtype for the whole process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from babelscope.checkpoints.checkpoint import Checkpoint
from babelscope.checkpoints.mapping import Layout, aliases, layout_of, mapping_of
from babelscope.checkpoints.opening import config_of, first_line, open_model, settings_of
from babelscope.checkpoints.reading import read_weights
from babelscope.checkpoints.series import Series
from babelscope.checkpoints.weights import is_adapter
from babelscope.core.errors import InputError
from babelscope.interp.anatomy import Anatomy

READERS = 8  # more would not read a page cache or a disk any faster


class LiveModel:
    """A series' model.

    Its weights have no gradients, and it is in `eval()` after every swap; hooks stay where they are.

    Parameters
    ----------
    series
        Whose checkpoints are loaded.
    dtype
        Of the weights in memory.
    device
        Where it lives; default: the first GPU if there is one.
    prefetch
        Whether `walk` reads the next checkpoint while this one is used, at the cost of a second copy of the
        weights, on the CPU.
    """

    def __init__(
        self,
        series: Series,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | None = None,
        prefetch: bool = True,
    ):
        self.series = series
        self.dtype = dtype
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._anatomy: Anatomy | None = None
        self._mappings: dict[Layout, dict[str, str] | None] = {}
        self._reader = ThreadPoolExecutor(max_workers=1) if prefetch else None
        self._ahead: tuple[Checkpoint, Future[bool]] | None = None
        self._copy: dict[str, Tensor] = {}  # the weights read ahead, by entry of the model's state

    def at(self, checkpoint: Checkpoint) -> Anatomy:
        """The model with this checkpoint's weights; the one handed out before changes with it.

        Raises
        ------
        InputError, BrokenWeightsError
            If the checkpoint cannot be read, has non-finite weights, or is of another model than the series'
            first. The model may then hold parts of it, until the next swap.
        """
        return self._at(checkpoint, following=None)

    def walk(self, checkpoints: Iterable[Checkpoint]) -> Iterator[tuple[Checkpoint, Anatomy]]:
        """Each checkpoint with the model as of `at`, while the next is being read.

        What is wrong with a checkpoint is raised at its own turn. It does not end the walk: `next` goes on
        with the one after it.
        """
        order = list(checkpoints)
        # A map, unlike a generator, outlives an exception.
        return map(lambda now, then: (now, self._at(now, following=then)), order, [*order[1:], None])

    def at_random(self, seed: int) -> Anatomy:
        """The model as it might have been initialised: the null of every measure."""
        config = config_of(self.series.described, what=self.series.described.name)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            fresh = AutoModelForCausalLM.from_config(config, dtype=self.dtype)
        return self._adopt(fresh, what=f"random initialisation {seed}")

    def _at(self, checkpoint: Checkpoint, *, following: Checkpoint | None) -> Anatomy:
        try:
            anatomy = self._swap(checkpoint)
        finally:
            if following is not None and self._reader is not None:
                self._ahead = following, self._reader.submit(self._read_ahead, following)
        anatomy.model.eval()
        return anatomy

    def _swap(self, checkpoint: Checkpoint) -> Anatomy:
        if self._ahead is not None and self._ahead[0] == checkpoint:
            (_, read), self._ahead = self._ahead, None
            if read.result() and self._anatomy is not None:
                state = self._anatomy.model.state_dict()
                for entry, value in self._copy.items():
                    state[entry].copy_(value, non_blocking=True)
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)  # before the thread writes over the copy
                return self._anatomy
        mapping = self._mapping(checkpoint)
        if mapping is None or self._anatomy is None:
            return self._open(checkpoint)
        readers = min(torch.get_num_threads(), READERS)
        state = self._anatomy.model.state_dict()
        read_weights(checkpoint.path, mapping, state, readers=readers, what=checkpoint.name)
        return self._anatomy

    def _read_ahead(self, checkpoint: Checkpoint) -> bool:
        """Read a checkpoint into the copy, on the thread; False if only `from_pretrained` can read it."""
        mapping = self._mapping(checkpoint)
        if mapping is None or self._anatomy is None:
            return False
        if not self._copy:
            state, pinned = self._anatomy.model.state_dict(), self.device.type == "cuda"
            self._copy = {
                entry: torch.empty_like(state[entry], device="cpu", pin_memory=pinned)
                for entry in mapping.values()
            }
        # One reader: the measure has the processors.
        read_weights(checkpoint.path, mapping, self._copy, readers=1, what=checkpoint.name)
        return True

    def _mapping(self, checkpoint: Checkpoint) -> dict[str, str] | None:
        """How this checkpoint's tensors are laid out, where that was verified on one like it."""
        self._refuse_other_settings(checkpoint)
        return None if is_adapter(checkpoint.path) else self._mappings.get(layout_of(checkpoint.path))

    def _open(self, checkpoint: Checkpoint) -> Anatomy:
        path, what = checkpoint.path, checkpoint.name
        fresh = open_model(path, what=what, dtype=self.dtype)
        if not is_adapter(path) and (layout := layout_of(path)) not in self._mappings:
            self._mappings[layout] = mapping_of(fresh, path)
        return self._adopt(fresh, what=what)

    def _adopt(self, fresh: Any, *, what: str) -> Anatomy:
        if self._anatomy is None:
            for entry in (*fresh.parameters(), *fresh.buffers()):
                entry.data = entry.data.clone()  # transformers may leave it mapped to a file that can change
            self._anatomy = Anatomy(fresh.requires_grad_(False).to(self.device).eval())
            return self._anatomy
        live = self._anatomy.model
        if aliases(fresh) != aliases(live):
            raise InputError(f"{what} ties other weights to each other than the checkpoints before it")
        try:
            live.load_state_dict(fresh.state_dict(), strict=True)
        except RuntimeError as error:
            raise InputError(f"{what} is not the series' model: {first_line(error)}") from None
        return self._anatomy

    def _refuse_other_settings(self, checkpoint: Checkpoint) -> None:
        """A swap changes weights only: one with, say, another rotary base would be run with the first's."""
        own = settings_of(checkpoint.path, what=checkpoint.name)
        other = sorted(k for k in own.keys() | self._settings if own.get(k) != self._settings.get(k))
        if other:
            was, now = self._settings.get(other[0]), own.get(other[0])
            raise InputError(
                f"{checkpoint.name} is configured unlike {self.series.described.name} "
                f"({other[0]}: {now!r}, not {was!r}); measure it in a series of its own"
            )

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return settings_of(self.series.described, what=self.series.described.name)
