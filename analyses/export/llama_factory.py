"""LLaMA-Factory: three keys of a training configuration, two of them lists with commas.

`interleave_probs` are probabilities per example, in the order of `dataset`, and are refused beside
`mix_strategy: concat`, the default. For pre-training, examples are packed after they are drawn, so lengths
differ at the draw and q_k ∝ p_k / m_k; for fine-tuning, m_k is the mean after `cutoff_len`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from babelscope.analyses.export import Export
from babelscope.analyses.export._draws import (
    conversion,
    draw_shares,
    end,
    left_out,
    mean_tokens,
    read_again,
    to_build,
    token_shares,
)
from babelscope.analyses.export._text import block_yaml, header
from babelscope.core.errors import InputError
from babelscope.core.files import write_text
from babelscope.corpora.mix import Mix

# interleave_once ends on whatever is left and so misses the shares; concat takes no probabilities.
STRATEGIES = ("interleave_over", "interleave_under")


def write(
    mix: Mix,
    path: Path,
    *,
    sources: Mapping[str, str],
    tokens_per_document: Mapping[str, float] | float | None = None,
    mix_strategy: str = STRATEGIES[0],
) -> list[str]:
    """Write the keys.

    Parameters
    ----------
    sources
        Name of each language's data set in dataset_info.json.
    tokens_per_document
        Mean tokens per example of each source, or one number: examples are packed rows of that many tokens.
    mix_strategy
        "interleave_over" repeats the sources that end early, "interleave_under" stops with the first.

    Raises
    ------
    InputError
        For a name with a comma or with spaces around it, which LLaMA-Factory would split or strip; without
        `tokens_per_document`: token shares are not shares of examples.
    """
    if mix_strategy not in STRATEGIES:
        raise InputError(
            f"mix_strategy {mix_strategy!r} does not hold the shares; use {' or '.join(STRATEGIES)}"
        )
    shares = token_shares(mix, sources, what="data set name")
    if odd := [name for name in (sources[one] for one in shares) if "," in name or name.strip() != name]:
        raise InputError(f"LLaMA-Factory splits names at commas and strips them; rename {odd[0]!r}")
    means = mean_tokens(mix, shares, tokens_per_document)
    first = mix_strategy == "interleave_under"
    ends = [*([] if first else read_again(mix, shares)), *end(mix, shares, first=first)]
    notes = [*conversion(shares, means), *left_out(mix), *to_build(mix, shares), *ends]
    probabilities = draw_shares(shares, means).values()
    document = {
        "dataset": ",".join(sources[language] for language in shares),
        "mix_strategy": mix_strategy,
        "interleave_probs": ",".join(f"{probability:.12g}" for probability in probabilities),
    }
    write_text(path, f"{header(mix, EXPORT, notes)}{block_yaml(document)}")
    return notes


EXPORT = Export(
    name="llama-factory",
    unit="example: probabilities are per document, converted from shares of tokens",
    source="LLaMA-Factory 0.9.5, llamafactory/hparams/data_args.py and llamafactory/data/data_utils.py",
    verified="parsed and drawn with llamafactory 0.9.5, achieved shares of tokens measured",
    endings=(".yaml", ".yml"),
    write=write,
)
