"""Documents of a source: read, filtered, without exact duplicates, split into training and held-out.

A source is a directory (files chosen by ending), a `.jsonl` or `.jsonl.gz` file with a `text` field, or a
`.txt` file whose documents are separated by blank lines. Documents come in a fixed order and are streamed.

The split looks at nothing but the text: a document is held out if

    hash(text) / 2^64 < fraction

so it lands on the same side in every run, whatever the seed, the path or the other documents. What one run
holds out, no run that reads the same source has trained on.
"""

from __future__ import annotations

import gzip
import hashlib
import heapq
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from babelscope.core.errors import InputError
from babelscope.core.files import digest

HELDOUT_BYTES = (
    4 * 2**20
)  # enough for a loss with a standard error below a percent; more costs forward passes
HUGE_BYTES = 2**20  # data and generated tables rather than source
LONGEST_LINE = 1000  # as The Stack and StarCoder filter minified and generated files
MEAN_LINE = 100


@dataclass(frozen=True)
class Document:
    """A text and where it comes from: a path relative to its source, or a file and its n-th document."""

    name: str
    text: str


class Source:
    """The distinct documents of one language.

    Parameters
    ----------
    paths
        Directories or files; read in this order.
    extensions
        Endings, with the dot, of the files to read in directories.
    heldout
        Fraction of the documents to hold out, in (0, 1). At least one is; of more than 4 MiB, those with the
        smallest hashes are kept and the rest is dropped, never trained on.

    Attributes
    ----------
    heldout_
        Held-out documents in order of their hash; complete once `training` is exhausted.
    counts_
        Documents by fate: training, held out, dropped, duplicate, or the reason for skipping them.

    Raises
    ------
    InputError
        If a path does not exist or is of no known kind, or (from `training`) if nothing usable is found.
    """

    def __init__(self, paths: Sequence[Path], *, extensions: Sequence[str], heldout: float = 0.01):
        for path in paths:
            if not path.exists():
                raise InputError(f"the source {str(path)!r} does not exist")
            if path.is_file() and not path.name.endswith((".jsonl", ".jsonl.gz", ".txt")):
                raise InputError(
                    f"the source {str(path)!r} is not a directory, .jsonl, .jsonl.gz or .txt file"
                )
        self.paths = tuple(paths)
        self.extensions = tuple(extensions)
        self.heldout = heldout
        self.heldout_: list[Document] = []
        self.counts_: Counter[str] = Counter()

    def training(self) -> Iterator[Document]:
        """Stream the distinct documents that are not held out."""
        self.counts_.clear()
        seen: set[bytes] = set()
        kept = _SmallestHashes(HELDOUT_BYTES)
        # The document with the smallest hash so far waits here, to be held out if no other is.
        waiting: tuple[float, Document] | None = None
        for document in self._documents():
            fingerprint = hashlib.blake2b(document.text.encode(), digest_size=16).digest()
            if fingerprint in seen:
                self.counts_["duplicate"] += 1
                continue
            seen.add(fingerprint)
            position = int.from_bytes(fingerprint[:8], "big") / 2**64
            if position < self.heldout:
                kept.add(position, document)
                continue
            if waiting is None or position < waiting[0]:
                waiting, released = (position, document), waiting
                if released is None:
                    continue
                document = released[1]
            self.counts_["training"] += 1
            yield document
        if waiting is not None and kept:
            self.counts_["training"] += 1
            yield waiting[1]
        elif waiting is not None:
            kept.add(*waiting)
        self.heldout_ = kept.documents()
        self.counts_["held out"], self.counts_["dropped"] = len(self.heldout_), kept.dropped
        if not self.counts_["training"]:
            found = ", ".join(f"{number} {fate}" for fate, number in sorted(self.counts_.items()) if number)
            raise InputError(
                f"no documents to train on in {', '.join(str(path) for path in self.paths)} with the endings "
                f"{list(self.extensions)} (found: {found or 'nothing'}); two distinct ones are the least"
            )

    def listing(self) -> dict[str, int]:
        """Bytes of every file this source would open, by path; a cheap upper bound on its text."""
        return {str(path): path.stat().st_size for root in self.paths for path in self._files(root)}

    def fingerprint(self) -> str:
        """Hash that changes with any file's name, size or time of change; reads no content."""
        states = [(str(file), *_state(file)) for root in self.paths for file in self._files(root)]
        return digest([states, self.extensions, self.heldout])

    def _files(self, root: Path) -> Iterator[Path]:
        if root.is_file():
            yield root
            return
        for folder, folders, names in os.walk(root):
            folders.sort()
            found = (Path(folder, name) for name in sorted(names) if name.endswith(self.extensions))
            yield from (path for path in found if path.is_file())

    def _documents(self) -> Iterator[Document]:
        for root in self.paths:
            if root.is_dir():
                for path in self._files(root):
                    text, problem = _read_source(path)
                    if problem:
                        self.counts_[problem] += 1
                    else:
                        yield Document(path.relative_to(root).as_posix(), text)
            else:
                yield from read_collection(root)


class _SmallestHashes:
    """Documents with the smallest hashes, as many as fit into a number of bytes but at least one."""

    def __init__(self, limit: int):
        self.limit, self.bytes, self.dropped = limit, 0, 0
        self.heap: list[tuple[float, str, str]] = []  # the largest hash first, hence negative

    def __len__(self) -> int:
        return len(self.heap)

    def add(self, position: float, document: Document) -> None:
        heapq.heappush(self.heap, (-position, document.name, document.text))
        self.bytes += len(document.text.encode())
        while self.bytes > self.limit and len(self.heap) > 1:
            self.bytes -= len(heapq.heappop(self.heap)[2].encode())
            self.dropped += 1

    def documents(self) -> list[Document]:
        return [Document(name, text) for _, name, text in sorted(self.heap, reverse=True)]


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _read_source(path: Path) -> tuple[str, str | None]:
    """Text of a file, or the reason why it is not source code that a person wrote."""
    try:
        if path.stat().st_size > HUGE_BYTES:
            return "", "huge"
        content = path.read_bytes()
    except OSError:
        return "", "unreadable"
    if b"\0" in content:
        return "", "binary"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return "", "not UTF-8"
    if not text.strip():
        return "", "empty"
    lines = [len(line) for line in text.splitlines()]
    if max(lines) > LONGEST_LINE or sum(lines) > MEAN_LINE * len(lines):
        return "", "minified"
    return text, None


def read_collection(path: Path) -> Iterator[Document]:
    """Documents of one `.txt`, `.jsonl` or `.jsonl.gz` file."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8") as file
        ):
            texts = _paragraphs(file) if path.suffix == ".txt" else _text_fields(file, origin=str(path))
            for number, text in enumerate(texts, start=1):
                if text.strip():
                    yield Document(f"{path.name}:{number}", text)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def _paragraphs(lines: Iterator[str]) -> Iterator[str]:
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "".join(paragraph)
            paragraph = []
    if paragraph:
        yield "".join(paragraph)


def _text_fields(lines: Iterator[str], *, origin: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{origin}, line {number} is not JSON: {error}") from None
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            found = list(record) if isinstance(record, dict) else type(record).__name__
            raise InputError(f'{origin}, line {number} has no "text" string (found: {found})')
        yield record["text"]
