"""Whether layers carry the language of a position beyond the token itself, with intervals and nulls.

The number that says so is the accuracy of linear probes on *matched* positions: as many of each token type in
every language, tried on files that no probe was fitted to. It is compared with the same on a randomly
initialised model, in which attention mixes what stands before, so that context can be read there too: only
what exceeds it has been learnt.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from babelscope.analyses.sweep import Results
from babelscope.core.errors import InputError
from babelscope.core.languages import shown
from babelscope.core.stats import LEVEL, percentile_interval, resample
from babelscope.interp.language_identity import language_identity

MATCHED = "matched"


class LanguageIdentity:
    """How well linear probes tell the language, layer by layer and step by step.

    Parameters
    ----------
    results
        With the measures "activations" and "language_identity".
    seed
        Of the bootstrap.

    Attributes
    ----------
    table_ : DataFrame
        step, layer, statistic, estimate, low, high (files, then positions resampled); `random_model`, the
        same on a randomly initialised model, and `above_random`, `above_low`, `above_high`, the difference
        from it, resampled together; `permuted`, the highest with languages permuted between files (NaN but
        for "matched"); `outside_null`, where the difference's interval is above 0 and, for "matched", the
        estimate above `permuted` and its interval above chance. Statistics: "matched" (accuracy where the
        token tells nothing), "accuracy" (of probes at all sampled positions), "selectivity" (accuracy −
        control accuracy), "gain" (accuracy − that of the token's majority language).
    chance_ : float
        Accuracy of guessing among the languages, on matched positions and on all.
    by_token_ : float
        Accuracy of the token's majority language, at all positions.
    files_, positions_, matched_ : int
        What was read: files, sampled positions, and the matched ones among these.
    verdict_ : str
        Whether any layer carries the language beyond its nulls, in one sentence.

    Raises
    ------
    InputError
        If the held-out text could not be probed; the message says why.
    """

    def __init__(self, results: Results, *, seed: int = 0):
        data = results["language_identity"]
        if "refused" in data.attrs:
            raise InputError(data.attrs["refused"])
        null = language_identity(results.null("activations"), permutations=0)
        self.languages_ = list(dict.fromkeys(data["language"].to_numpy().tolist()))
        self.chance_ = 1 / len(self.languages_)
        # Which positions are matched and what their tokens tell is the same at every step.
        self.by_token_ = float(null["by_token"].mean())
        self.files_ = len(np.unique(null["document"]))
        self.positions_, self.matched_ = null.sizes["position"], int(null["matched"].sum())

        weights = resample(self.positions_, clusters=null["document"].to_numpy().tolist(), seed=seed)
        counted = null["matched"].to_numpy()
        tables = []
        for name, of in STATISTICS.items():
            used = counted if name == MATCHED else np.ones_like(counted)
            drawn = np.concatenate([np.ones((1, len(used))), weights]) * used
            # The first draw is the sample itself.
            draws, at_random = (_means(of(found), drawn) for found in (data, null.expand_dims("step")))
            if name == MATCHED:
                self._above = draws - at_random
            tables.append(self._table(name, data, draws, at_random))
        self.table_ = pd.concat(tables, ignore_index=True)
        self.verdict_ = self._in_words()

    def _table(
        self,
        name: str,
        data: xr.Dataset,
        draws: Float[np.ndarray, "draw step layer"],
        at_random: Float[np.ndarray, "draw 1 layer"],
    ) -> pd.DataFrame:
        shape = draws.shape[1:]
        permuted = data["permuted"].max("permutation").transpose("step", "layer").to_numpy()
        above = draws - at_random
        low, high = np.moveaxis(percentile_interval(draws[1:]), -1, 0)
        above_low, above_high = np.moveaxis(percentile_interval(above[1:]), -1, 0)
        outside = above_low > 0
        if name == MATCHED:
            outside &= (draws[0] > permuted) & (low > self.chance_)
        step, layer = np.meshgrid(data["step"], data["layer"], indexing="ij")
        columns = {
            "step": step,
            "layer": layer,
            "statistic": np.full(shape, name),
            "estimate": draws[0],
            "low": low,
            "high": high,
            "random_model": np.broadcast_to(at_random[0], shape),
            "above_random": above[0],
            "above_low": above_low,
            "above_high": above_high,
            "permuted": permuted if name == MATCHED else np.full(shape, np.nan),
            "outside_null": outside,
        }
        return pd.DataFrame({column: values.ravel() for column, values in columns.items()})

    def of(self, statistic: str) -> pd.DataFrame:
        """Rows of one statistic."""
        return self.table_.loc[self.table_["statistic"] == statistic].reset_index(drop=True)

    def beyond_nulls(self) -> pd.DataFrame:
        """Matched rows that are outside their nulls even though they were picked among all layers and steps.

        Their difference from the random model has a simultaneous lower bound above 0 (`simultaneous_low`):
        estimate − c·(standard error), c the quantile of the largest standardised deviation of any cell.
        """
        matched = self.of(MATCHED)
        above = self._above.reshape(len(self._above), -1)
        error = above[1:].std(0)
        deviation = np.divide(above[1:] - above[0], error, out=np.zeros_like(above[1:]), where=error > 0)
        c = np.quantile(deviation.max(1), LEVEL)
        matched["simultaneous_low"] = above[0] - c * error
        return matched.loc[matched["outside_null"] & (matched["simultaneous_low"] > 0)]

    def _in_words(self) -> str:
        names = [shown(language) for language in self.languages_]
        told = f"{', '.join(names[:-1])} and {names[-1]}"
        beyond, cells = self.beyond_nulls(), len(self.of(MATCHED))
        if beyond.empty:
            return (
                f"From tokens that occur alike in {told}, linear probes do not tell the language better at"
                f" any layer and step than in a random model, as far as {self.files_} files resolve."
            )
        most = beyond.loc[beyond["above_random"].idxmax()]
        return (
            f"From tokens that occur alike in {told}, linear probes tell the language better than in a random"
            f" model at {len(beyond)} of {cells} layers × checkpoints; the difference is largest after layer"
            f" {most['layer']} at step {most['step']:,}: {most['estimate']:.0%} of the positions"
            f" ({most['low']:.0%} to {most['high']:.0%}), {most['random_model']:.0%} in the random model,"
            f" {self.chance_:.0%} by chance."
        )


def _means(
    values: xr.DataArray, weights: Float[np.ndarray, "draw position"]
) -> Float[np.ndarray, "draw step layer"]:
    """Weighted means over positions."""
    cells = values.transpose("position", "step", "layer").to_numpy().astype(float)
    sums = weights @ cells.reshape(len(cells), -1)
    return (sums / weights.sum(1, keepdims=True)).reshape(-1, *cells.shape[1:])


STATISTICS = {
    MATCHED: lambda found: found["matched_correct"],
    "accuracy": lambda found: found["correct"],
    "selectivity": lambda found: found["correct"] - found["control"],
    "gain": lambda found: found["correct"] - found["by_token"],
}
