"""nanotron: one entry of `data_stages` with two lists, of folders and of weights.

nanotron draws samples of one fixed sequence length from folders of datatrove's .ds files, so a share of
samples is a share of tokens. Folder and weights are two lists; the one mapping {folder: weight} that its own
documentation still shows is refused by its present configuration. `dataset_max_tokens` keeps the first tokens
of a folder, which is the limit on unique tokens if the files are shuffled; it takes no gaps, so it is written
only where the mix limits every language.

Several stages with their own `start_training_step` change the mix during a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from babelscope.analyses.export import Export
from babelscope.analyses.export._draws import left_out, read_again, to_build, token_shares
from babelscope.analyses.export._text import block_yaml, header
from babelscope.core.errors import InputError
from babelscope.core.files import write_text
from babelscope.corpora.mix import Mix


def write(
    mix: Mix,
    path: Path,
    *,
    sources: Mapping[str, str],
    stage: str = "mix",
    start_training_step: int = 1,
    seed: int = 42,
) -> list[str]:
    """Write the stage.

    Parameters
    ----------
    sources
        Each language's folder of .ds files.
    stage
        The stage's name; no two stages share one.
    start_training_step
        First step of the stage; one stage of a configuration must begin at 1.
    seed
        Of the order of samples.

    Raises
    ------
    InputError
        For a source that is a file, or a first step below 1.
    """
    shares = token_shares(mix, sources, what="dataset folder")
    if files := [source for source in (sources[one] for one in shares) if source.endswith(".ds")]:
        raise InputError(f"nanotron reads a folder of .ds files; give the folder of {files[0]!r}")
    if start_training_step < 1:
        raise InputError(f"start_training_step is {start_training_step}; nanotron counts steps from 1")
    limits = [mix.languages[language].unique_tokens for language in shares]
    dataset: dict[str, Any] = {
        "dataset_folder": [sources[language] for language in shares],
        "dataset_weights": list(shares.values()),
    }
    notes = [*left_out(mix), *read_again(mix, shares)]
    if None in limits:
        notes += to_build(mix, shares)
    else:
        dataset["dataset_max_tokens"] = limits
        notes.append(
            "dataset_max_tokens keeps the first tokens of a folder: shuffle the documents beforehand."
        )
    if start_training_step > 1:
        notes.append("Add this stage to those of the configuration; one of them must begin at step 1.")
    data = {"dataset": dataset, "num_loading_workers": 1, "seed": int(seed)}
    stages = [{"name": stage, "start_training_step": int(start_training_step), "data": data}]
    write_text(path, f"{header(mix, EXPORT, notes)}{block_yaml({'data_stages': stages})}")
    return notes


EXPORT = Export(
    name="nanotron",
    unit="sample of the fixed sequence length, so a share of samples is a share of tokens",
    source=(
        "nanotron's repository, src/nanotron/config/config.py and src/nanotron/data/tokenized_bytes.py"
        " (0239839); release 0.4 is older and has neither"
    ),
    verified=None,
    endings=(".yaml", ".yml"),
    write=write,
)
