"""Token-true mixing: rows of tokens in which every language has exactly its share.

Interleaving documents by probability gives shares of documents, not of tokens (.5/.2/.3 became
.311/.376/.313 with lengths 300/900/500). Here a source is tokenised once into a flat file, and a training run
of N rows of equal length is planned beforehand, each row wholly of one language:

    n_k = N p_k rounded by largest remainder          the j-th row of language k stands at (j + 1/2) / n_k

Sorting those positions spreads every language evenly: after t rows each has had t n_k / N, to within half the
number of languages. Within a language, rows are visited in a new seeded order each epoch. All of it is a
function of the arguments, so that row i is the same in every process and after every restart.
"""

from __future__ import annotations

import copy
import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.core.files import digest, read_json, whole_file, write_json
from babelscope.core.progress import progress

_BATCH_CHARACTERS = 2**22  # what is tokenised at once: enough to keep every core busy, little memory


class TokenCounts(Strict):
    """What a token file holds, beside what its source held.

    Attributes
    ----------
    key
        Hash of all that determines the file: source, tokenizer, number of tokens to keep and seed.
    tokens, documents
        In the file; every document ends with one end-of-text token, which is counted.
    source_tokens, source_documents, source_bytes
        In the whole training part of the source, whether kept or not.
    dtype
        NumPy name of the integers in the file.
    """

    key: str
    tokens: int
    documents: int
    source_tokens: int
    source_documents: int
    source_bytes: int
    dtype: str


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash of a fast tokenizer's whole definition."""
    return digest(tokenizer.backend_tokenizer.to_str())


def tokenise(
    texts: Iterable[str],
    *,
    tokenizer: Any,
    path: Path,
    key: str,
    keep: int | None = None,
    seed: int = 0,
    label: str = "tokenising",
) -> TokenCounts:
    """Write the tokens of `texts` into one flat file, with `TokenCounts` as JSON beside it.

    Parameters
    ----------
    tokenizer
        A fast Hugging Face tokenizer with an end-of-text token. Text that looks like a special token is
        tokenised as text.
    path
        The file to write; `path` with the ending `.json` is written last.
    keep
        Unique tokens to keep: whole documents chosen at random, of the last one its beginning. None: all.

    Raises
    ------
    InputError
        If the tokenizer is not a fast one or has no end-of-text token.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InputError(f"{type(tokenizer).__name__} is not a fast tokenizer; save it with a tokenizer.json")
    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has no end-of-text token (eos_token), which must separate documents")
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
    encoder = _plain_encoder(tokenizer)
    lengths: list[int] = []
    read_bytes = 0
    sidecar = path.with_suffix(".json")
    sidecar.unlink(missing_ok=True)  # it must never describe another file than the one beside it
    with whole_file(path) as temporary:
        with temporary.open("wb") as file, progress() as display:
            task = display.add_task(label, total=None)
            for texts_at_once in _batches(texts):
                for encoding in encoder.encode_batch_fast(texts_at_once, add_special_tokens=False):
                    np.asarray([*encoding.ids, tokenizer.eos_token_id], dtype=dtype).tofile(file)
                    lengths.append(len(encoding.ids) + 1)
                read_bytes += sum(len(text.encode()) for text in texts_at_once)
                display.update(task, completed=len(lengths))
        taken = _sample(lengths, keep=keep, seed=seed)
        if taken.sum() < sum(lengths):
            _keep_beginnings(temporary, lengths, taken, dtype=dtype, end_of_text=tokenizer.eos_token_id)
    counts = TokenCounts(
        key=key,
        tokens=int(taken.sum()),
        documents=int(np.count_nonzero(taken)),
        source_tokens=sum(lengths),
        source_documents=len(lengths),
        source_bytes=read_bytes,
        dtype=dtype.name,
    )
    write_json(sidecar, counts.model_dump())
    return counts


def token_counts(path: Path) -> TokenCounts | None:
    """What `tokenise` recorded about the token file `path`; None if it did not get to the end."""
    sidecar = path.with_suffix(".json")
    if not path.exists() or not sidecar.exists():
        return None
    return TokenCounts.parse(read_json(sidecar), origin=str(sidecar))


def open_tokens(path: Path) -> NDArray[np.unsignedinteger]:
    """The tokens in a file that `tokenise` wrote, mapped into memory rather than read."""
    counts = token_counts(path)
    if counts is None:
        raise InputError(f"{path} was not written to the end; tokenise the source again")
    return np.memmap(path, dtype=counts.dtype, mode="r", shape=(counts.tokens,))


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
        positions = np.concatenate([(np.arange(due) + 0.5) / due for due in counts if due])
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


def apportion(shares: Sequence[float], *, total: int) -> NDArray[np.int64]:
    """Whole numbers nearest to `shares` × `total` that sum to `total` (largest remainder, Hamilton)."""
    exact = np.asarray(shares, dtype=np.float64) / np.sum(shares) * total
    counts = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(counts - exact, kind="stable")
    counts[by_remainder[: total - counts.sum()]] += 1
    return counts


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while True:
        batch, size = [], 0
        for text in texts:
            batch.append(text)
            size += len(text)
            if size >= _BATCH_CHARACTERS:
                break
        if not batch:
            return
        yield batch


def _plain_encoder(tokenizer: Any) -> Any:
    # The Rust tokenizer itself: three times as fast as the Python call, which also makes masks and offsets.
    # A copy, because the caller's tokenizer should go on treating special tokens as special.
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_padding()
    backend.no_truncation()
    backend.encode_special_tokens = True
    return backend


def _sample(lengths: Sequence[int], *, keep: int | None, seed: int) -> NDArray[np.int64]:
    """Tokens to take of each document so that they sum to `keep`: whole documents, and one beginning."""
    every = np.asarray(lengths, dtype=np.int64)
    if keep is None:
        return every
    order = np.random.default_rng(seed).permutation(len(every))
    before = np.cumsum(every[order]) - every[order]
    taken = np.zeros_like(every)
    taken[order] = np.clip(keep - before, 0, every[order])
    return taken


def _keep_beginnings(
    path: Path, lengths: Sequence[int], taken: NDArray[np.int64], *, dtype: np.dtype, end_of_text: int
) -> None:
    """Rewrite a token file to the first `taken[i]` tokens of each document i, the last of them its end."""
    everything = np.memmap(path, dtype=dtype, mode="r+")
    end = 0
    for start, size in zip(itertools.accumulate(lengths, initial=0), taken, strict=False):
        if size:
            # Moves towards the front only, so nothing is overwritten before it was read.
            everything[end : end + size] = everything[start : start + size]
            end += int(size)
            everything[end - 1] = end_of_text
    everything.flush()
    with path.open("r+b") as file:
        file.truncate(end * everything.itemsize)
