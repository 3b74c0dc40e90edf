"""A model's revisions on the Hugging Face hub: which there are, which are here, and fetching one.

Where the cache is and whether the network may be used is what `huggingface_hub` says (`HF_HUB_CACHE`,
`HF_HOME`, `HF_HUB_OFFLINE`). Every failure is an `InputError` in one line, whatever the library raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from babelscope.checkpoints.weights import BrokenWeightsError, weight_files
from babelscope.core.errors import InputError

DESCRIPTION = ("*config.json", "tokenizer*", "vocab.json", "merges.txt", "special_tokens_map.json")
DESCRIPTION += ("added_tokens.json", "trainer_state.json")
SAFETENSORS = ("model*.safetensors", "adapter_model.safetensors", "*.safetensors.index.json")
BINARIES = ("pytorch_model*.bin", "adapter_model.bin", "pytorch_model.bin.index.json")


def cache_folder(repo: str) -> Path:
    """Where the cache keeps a model, whether or not it does."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


def is_offline() -> bool:
    """Whether the user has forbidden the network."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def revisions(repo: str) -> list[str]:
    """Branches and tags of a model, as the hub lists them.

    Raises
    ------
    InputError
        If the hub cannot be reached or does not know the model.
    """
    from huggingface_hub import list_repo_refs

    with _in_words(f"the hub does not list the revisions of {repo}"):
        refs = list_repo_refs(repo)
    return [ref.name for ref in (*refs.branches, *refs.tags)]


def fetch(repo: str, revision: str, *, weights: bool = True) -> Path:
    """Download a revision into the cache: configuration, tokenizer and, unless refused, weights.

    Safetensors are preferred; `.bin` files are fetched only where there is nothing else.

    Raises
    ------
    InputError
        If it cannot be downloaded, or has no weights that can be read.
    """
    from huggingface_hub import snapshot_download

    wanted = [*DESCRIPTION, *(SAFETENSORS if weights else ())]
    with _in_words(f"{repo}@{revision} is not in the cache and cannot be downloaded"):
        path = Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
        if weights and not has_weights(path):
            snapshot_download(repo, revision=revision, allow_patterns=list(BINARIES))
            weight_files(path)
    return path


def has_weights(snapshot: Path) -> bool:
    """Whether all weight files of a snapshot are there; a download may have stopped half-way."""
    try:
        return bool(weight_files(snapshot))
    except (BrokenWeightsError, OSError):
        return False


@contextmanager
def _in_words(failure: str) -> Iterator[None]:
    # The library re-exports the error of whatever HTTP client it uses; it changed clients twice.
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        yield
    except (OSError, HTTPError, HFValidationError, BrokenWeightsError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise InputError(f"{failure}: {reason}") from None
