"""OLMo-core: a list of sources with target ratios, read by `SourceMixtureList.from_yaml`.

Ratios are shares of tokens and must sum to 1. OLMo-core counts what each source's .npy files hold and takes
`requested_tokens` times the ratio of them; a source that is too small for that is an error unless its
`max_repetition_ratio` allows it to be read so many times. That bound follows from the mix: n_k / u_k, with
one hundredth to spare, since files rarely hold exactly u_k tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from babelscope.analyses.export import Export
from babelscope.analyses.export._draws import left_out, to_build, token_shares
from babelscope.analyses.export._text import block_yaml, header
from babelscope.core.errors import InputError
from babelscope.core.files import write_text
from babelscope.corpora.mix import Mix


def write(
    mix: Mix, path: Path, *, sources: Mapping[str, str], requested_tokens: int | None = None
) -> list[str]:
    """Write the list.

    Parameters
    ----------
    sources
        Each language's .npy file of token ids, or a pattern of several (`data/php/*.npy`).
    requested_tokens
        Tokens of the whole run; default: the processed tokens of the mix, where it knows them.

    Raises
    ------
    InputError
        For a source that is not .npy, or a run of less than one token.
    """
    shares = token_shares(mix, sources)
    if odd := [source for source in (sources[one] for one in shares) if not source.endswith(".npy")]:
        raise InputError(
            f"OLMo-core reads .npy files of token ids, not {odd[0]!r}; give such a file or *.npy"
        )
    if requested_tokens is not None and requested_tokens < 1:
        raise InputError(f"requested_tokens is {requested_tokens}; give the tokens of the whole run")
    total = _processed(mix, shares) if requested_tokens is None else requested_tokens
    entries = [
        {
            "source_name": language,
            "target_ratio": share,
            "max_repetition_ratio": _repetition(total, share, mix.languages[language].unique_tokens),
            "paths": [sources[language]],
        }
        for language, share in shares.items()
    ]
    notes = [*left_out(mix), *to_build(mix, shares), _use(total)]
    if unsure := [one for one in shares if total is None or mix.languages[one].unique_tokens is None]:
        notes.append(f"max_repetition_ratio is 1, since the mix has no epochs for it: {', '.join(unsure)}.")
    write_text(path, f"{header(mix, EXPORT, notes)}{block_yaml({'sources': entries})}")
    return notes


def _processed(mix: Mix, languages: Mapping[str, float]) -> int | None:
    counts = [mix.languages[language].processed_tokens for language in languages]
    return None if None in counts else sum(count for count in counts if count is not None)


def _repetition(total: int | None, share: float, unique: int | None) -> float:
    if total is None or not unique:
        return 1.0
    return max(1.0, math.ceil(101 * total * share / unique) / 100)


def _use(total: int | None) -> str:
    requested = "the tokens of the run" if total is None else total
    return (
        "Use: SourceMixtureDatasetConfig(source_list=SourceMixtureList.from_yaml(this file),"
        f" requested_tokens={requested}, global_batch_size=…)."
    )


EXPORT = Export(
    name="olmo-core",
    unit="token",
    source="OLMo-core 3.0.0, olmo_core/data/source_mixture.py",
    verified="built from .npy files with ai2-olmo-core 3.0.0, selected tokens counted",
    endings=(".yaml", ".yml"),
    write=write,
)
