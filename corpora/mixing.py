"""Token-true mixing: rows of tokens in which every language has exactly its share.

Interleaving documents by probability gives shares of documents, not of tokens (.5/.2/.3 became
.311/.376/.313 with lengths 300/900/500). Here a source is tokenised once into a flat file, and a training run
of N rows of equal length is planned beforehand, each row wholly of one language:

    n_k = N p_k rounded by largest remainder          the j-th row of language k stands at (j + 1/2) / n_k

Sorting those positions spreads every language evenly: after t rows each has had t n_k / N, to within half the
number of languages. A language that is read in the first part u_k of the run only has its rows at
u_k (j + 1/2) / n_k, and the others share what that leaves them. Within a language, rows are visited in a new
seeded order each epoch. All of it is a function of the arguments, so that row i is the same in every process
and after every restart.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from babelscope.core.errors import InputError


class MixedRows:
    """The rows of a training run, in order: `rows[i]` is (language, tokens of shape (length,)).

    Parameters
    ----------
    tokens
        Tokens of each language, one flat array each.
    proportions
        Share of each language among the rows, hence among the tokens; must sum to 1.
    rows
        Number of rows N in the run.
    length
        Tokens in a row.
    seed
        Of the order within a language.
    until
        Part of the run in which a language is read, where that is not all of it (`check_until`).

    Raises
    ------
    InputError
        If a language that is due a row has fewer tokens than one.
    """

    def __init__(
        self,
        tokens: Mapping[str, NDArray[np.integer]],
        *,
        proportions: Mapping[str, float],
        rows: int,
        length: int,
        seed: int = 0,
        until: Mapping[str, float] | None = None,
    ):
        self.languages = tuple(proportions)
        self.length = length
        self.seed = seed
        self._tokens = [tokens[language] for language in self.languages]
        counts = apportion([proportions[language] for language in self.languages], total=rows)
        self._unique_rows = [len(flat) // length for flat in self._tokens]  # a last, shorter row is left out
        for language, flat, due in zip(self.languages, self._tokens, counts, strict=True):
            if due and len(flat) < length:
                raise InputError(
                    f"the source of {language!r} has {len(flat)} tokens, fewer than one row of {length}; "
                    "add text or shorten sequence_length"
                )
        # Row j of language k is item starts[k] + j; the order of all items is the order of the run.
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        ends = np.array([(until or {}).get(language, 1.0) for language in self.languages])
        positions = np.concatenate([*_positions(counts, ends)])
        self._order = np.argsort(positions, kind="stable")
        self._epoch_orders: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> tuple[str, NDArray[np.int64]]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        language, row = self._row(index)
        return self.languages[language], row

    def __getitems__(self, indices: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Many rows at once, as a torch DataLoader asks for them.

        Returns
        -------
        languages : (rows,) indices into `self.languages`
        tokens : (rows, length)
        """
        languages, rows = zip(*(self._row(index) for index in indices), strict=True)
        return np.asarray(languages), np.stack(rows)

    def tokens_by_language(self, rows: int) -> dict[str, int]:
        """Tokens of each language in the first `rows` rows: achieved, not intended."""
        return {language: count * self.length for language, count in self._rows_by_language(rows).items()}

    def epochs(self, rows: int) -> dict[str, float]:
        """Times that the first `rows` rows have gone through each source; 0 for an empty source."""
        unique = dict(zip(self.languages, self._unique_rows, strict=True))
        return {
            language: count / unique[language] if unique[language] else 0.0
            for language, count in self._rows_by_language(rows).items()
        }

    def _rows_by_language(self, rows: int) -> dict[str, int]:
        seen = np.searchsorted(self._starts, self._order[:rows], side="right") - 1
        counts = np.bincount(seen, minlength=len(self.languages))
        return {language: int(count) for language, count in zip(self.languages, counts, strict=True)}

    def _row(self, index: int) -> tuple[int, NDArray[np.int64]]:
        item = int(self._order[index])
        language = int(np.searchsorted(self._starts, item, side="right")) - 1
        epoch, place = divmod(item - int(self._starts[language]), self._unique_rows[language])
        start = int(self._epoch_order(language, epoch)[place]) * self.length
        return language, self._tokens[language][start : start + self.length].astype(np.int64)

    def _epoch_order(self, language: int, epoch: int) -> NDArray[np.int64]:
        kept_epoch, order = self._epoch_orders.get(language, (-1, np.empty(0, dtype=np.int64)))
        if kept_epoch != epoch:
            # The language's name, not its place: its order stays when another language is added.
            name = zlib.crc32(self.languages[language].encode())
            order = np.random.default_rng([self.seed, name, epoch]).permutation(self._unique_rows[language])
            self._epoch_orders[language] = (epoch, order)
        return order


def check_until(proportions: Mapping[str, float], until: Mapping[str, float]) -> None:
    """Refuse parts of the run that cannot hold what they are to hold.

    Raises
    ------
    InputError
        If no language is read to the end, or the shares at the beginning of the run exceed it.
    """
    ended = {name: end for name, end in until.items() if end < 1}
    if not any(share > 0 and name not in ended for name, share in proportions.items()):
        raise InputError(
            f"until = {ended}: nothing is read to the end of the run; leave one source without it"
        )
    first = {name: proportions[name] / end for name, end in ended.items()}
    if sum(first.values()) > 1:
        listed = ", ".join(f"{name} {share:.0%}" for name, share in first.items())
        raise InputError(f"until = {ended} makes more than the whole of the run's beginning: {listed}")


def _positions(counts: NDArray[np.int64], ends: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Where in the run, from 0 to 1, each language's rows stand."""
    ended = ends < 1
    times = np.unique([0.0, *ends, 1.0])
    read = (counts[ended] * np.minimum(times[:, None] / ends[ended], 1)).sum(1)
    left = times * counts.sum() - read  # rows of all other languages by then
    for due, end in zip(counts, ends, strict=True):
        evenly = (np.arange(due) + 0.5) / max(due, 1)
        others = end == 1 and ended.any()
        yield np.interp(evenly * left[-1], left, times) if others else end * evenly


def apportion(shares: Sequence[float], *, total: int) -> NDArray[np.int64]:
    """Whole numbers nearest to `shares` × `total` that sum to `total` (largest remainder, Hamilton)."""
    exact = np.asarray(shares, dtype=np.float64) / np.sum(shares) * total
    counts = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(counts - exact, kind="stable")
    counts[by_remainder[: total - counts.sum()]] += 1
    return counts
