"""Which checkpoints are this process's: the whole of running on several GPUs or machines.

    shard i of n    the i-th, (i+n)-th, (i+2n)-th … checkpoint, i from 1

Round robin, so that a series that is still growing stays divided evenly. Processes share nothing but the
store, where every result appears whole: none waits for another, and a killed one is simply run again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from babelscope.core.errors import InputError

T = TypeVar("T")
LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))  # torchrun's, SLURM's


@dataclass(frozen=True)
class Shard:
    """One process of several.

    Parameters
    ----------
    index
        From 1 to `count`.
    count
        How many processes there are.

    Raises
    ------
    InputError
        If there is no such shard.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(f"there is no shard {self}; shards are counted from 1/{self.count}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `2/8`.

        Raises
        ------
        InputError
            If it is anything else.
        """
        match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
        if not match:
            raise InputError(f"shard {text!r}: write it as i/n, for example 2/8 for the second of eight")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The process's rank, where torchrun or srun says one; otherwise all there is.

        Raises
        ------
        InputError
            If a rank makes no sense.
        """
        # A batch script has its job's number of tasks and rank 0, but srun has started none of them.
        in_batch_script = "SLURM_JOB_ID" in environment and "SLURM_STEP_ID" not in environment
        for rank, size in LAUNCHERS:
            if rank not in environment or size not in environment:
                continue
            if rank.startswith("SLURM") and in_batch_script:
                continue
            said = f"{rank}={environment[rank]!r} and {size}={environment[size]!r}"
            try:
                index, count = int(environment[rank]) + 1, int(environment[size])
            except ValueError:
                raise InputError(f"{said} are not numbers; unset them or give --shard i/n") from None
            return cls(index, count)
        return cls(1, 1)

    @property
    def is_last(self) -> bool:
        return self.index == self.count

    def of(self, items: Sequence[T]) -> list[T]:
        """This shard's part of `items`.

        >>> Shard(2, 3).of("abcdefg")
        ['b', 'e']
        """
        return list(items[self.index - 1 :: self.count])


WHOLE = Shard(1, 1)


def own_gpu(environment: Mapping[str, str] = os.environ) -> str | None:
    """The GPU that is this process's among those of its machine; None where no launcher says or none is."""
    import torch

    local = environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID"))
    if local is None or not torch.cuda.is_available():
        return None
    # Where the launcher shows each process one GPU only, that one is number 0 whatever the rank.
    return f"cuda:{int(local) % torch.cuda.device_count()}"
