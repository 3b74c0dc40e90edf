"""pass@k: the chance that at least one of k completions solves a problem, from n ≥ k completions of it.

    pass@k = 1 − C(n − c, k) / C(n, k)        c of n completions solve it

Unbiased (Chen et al., arXiv 2107.03374). The usual code returns 1 where k > n, even with nothing solved; here
that is refused.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from babelscope.core.errors import InputError


def pass_at_k(solved: Int[np.ndarray, "*shape"], n: int, k: int) -> Float[np.ndarray, "*shape"]:
    """The estimate for each problem.

    Parameters
    ----------
    solved
        How many of its completions solve each problem.
    n
        How many completions there are of each.
    k
        How many may be tried.

    Raises
    ------
    InputError
        If k is not from 1 to n, or more are solved than there are.
    """
    if not 1 <= k <= n:
        raise InputError(
            f"pass@{k} of {n} completions per problem: k goes from 1 to {n}; ask for more samples"
        )
    solved = np.asarray(solved)
    if (solved > n).any() or (solved < 0).any():
        raise InputError(f"{solved.max()} of {n} completions cannot be solved")
    # C(n − c, k) / C(n, k) = Π_{i = n−c+1..n} (1 − k/i), with no large numbers; 0 where n − c < k.
    steps = np.arange(1, n + 1)
    factors = np.where(steps > n - solved[..., None], 1 - k / steps, 1.0)
    return 1 - np.prod(factors.clip(0), axis=-1)
