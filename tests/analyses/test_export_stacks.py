"""Exported files in the hands of the stacks that read them: their own code parses, builds and draws.

Each test runs where that stack is installed; most stacks pin other versions than this project does, so they
live in an environment of their own (docs/exports.md says how).
"""

import json
import subprocess
from importlib.metadata import version
from itertools import islice

import numpy as np
import pytest
import yaml

from babelscope.analyses.export import export, formats
from babelscope.corpora.mix import Mix

SHARES = {"python": 0.6875, "php": 0.3125}


@pytest.fixture(autouse=True)
def cache_in_a_folder_of_the_test(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


def a_mix(weights=SHARES, unique=None, processed=None):
    languages = {
        name: {
            "weight": weight,
            "unique_tokens": (unique or {}).get(name),
            "processed_tokens": round(processed * weight) if processed else None,
        }
        for name, weight in weights.items()
    }
    document = {"languages": languages, "pivot": "python", "verdict": "For a test.", "method": "test"}
    return Mix.parse(document, origin="test")


def checked_with(format, distribution):
    """Skip where the stack is not installed; the version must be the one that the format names."""
    try:
        installed = version(distribution)
    except ModuleNotFoundError:
        pytest.skip(f"{distribution} is not installed")
    assert f"{distribution} {installed}" in formats()[format].verified


def documents(folder, lengths):
    """JSON Lines per language, one document of each length; a token is a word."""
    for language, counts in lengths.items():
        rows = ({"text": " ".join([language] * count)} for count in counts)
        (folder / f"{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {language: str(folder / f"{language}.jsonl") for language in lengths}


def unlike_lengths(count=3000):
    rng = np.random.default_rng(0)
    return {"python": rng.integers(5, 15, count), "php": rng.integers(40, 80, count)}


def share_and_error(tokens):
    """Token share of the first language from counts (n, 2), and its standard error as a ratio of means."""
    total = tokens.sum(1)
    share = tokens[:, 0].sum() / total.sum()
    return share, np.std(tokens[:, 0] - share * total) / (total.mean() * np.sqrt(len(tokens)))


def words_by_language(texts):
    """Counts (n, 2) of the words python and php in each text."""
    return np.array([[text.split().count(language) for language in SHARES] for text in texts])


@pytest.mark.parametrize("ending", ["sh", "txt", "json"])
def test_megatron_blends_samples_at_the_shares_of_the_mix(ending, tmp_path):
    checked_with("megatron", "megatron-core")
    from megatron.core.datasets.helpers_cpp import build_blending_indices
    from megatron.core.datasets.utils import get_blend_from_list, normalize

    sources = {"python": "/d/python_text_document", "php": "/d/php_text_document"}
    path = export(a_mix(), "megatron", tmp_path / f"mix.{ending}", sources=sources).path
    if ending == "sh":
        command = f'source {path}; printf "%s\\n" "${{DATA_ARGS[@]}}"'
        words = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
        flag, *blend = words.split()
        assert flag == "--train-data-path"
    elif ending == "txt":
        blend = path.read_text().split()
    else:
        blend = json.loads(path.read_text())["train"]

    prefixes, weights = get_blend_from_list(blend)
    assert list(prefixes) == list(sources.values())
    chosen, samples = np.zeros(1600, np.int16), np.zeros(1600, np.int64)
    build_blending_indices(chosen, samples, np.array(normalize(weights)), 2, 1600, False)
    assert np.bincount(chosen).tolist() == [1100, 500]


def test_olmo_core_selects_the_tokens_of_the_mix_and_repeats_what_it_allows(tmp_path):
    checked_with("olmo-core", "ai2-olmo-core")
    from olmo_core.data.source_mixture import SourceMixtureDatasetConfig, SourceMixtureList
    from olmo_core.exceptions import OLMoConfigurationError

    unique = {"python": 80_000, "php": 20_000}
    sources = {language: str(tmp_path / f"{language}.npy") for language in unique}
    for language, count in unique.items():
        np.zeros(count, np.uint16).tofile(sources[language])
    mix = a_mix(unique=unique, processed=100_000)
    path = export(mix, "olmo-core", tmp_path / "mix.yaml", sources=sources).path

    def build(source_list):
        given = SourceMixtureDatasetConfig(
            source_list=source_list, requested_tokens=100_000, global_batch_size=800, render_tables=False
        )
        return given.build(npdtype=np.uint16, sequence_length=8)

    built = build(SourceMixtureList.from_yaml(path))
    tokens = {one.name: sum(part.tokens for part in one.path_tokens) for one in built.sources}
    assert tokens["python"] / sum(tokens.values()) == pytest.approx(0.6875, abs=1e-3)
    assert tokens["php"] / sum(tokens.values()) == pytest.approx(0.3125, abs=1e-3)
    # 31,250 tokens of php from 20,000: without the allowance it is refused.
    document = yaml.safe_load(path.read_text())
    document["sources"][1]["max_repetition_ratio"] = 1.5
    with pytest.raises(OLMoConfigurationError, match="Insufficient tokens for source: php"):
        build(SourceMixtureList.from_dict(document))


def test_streaming_draws_samples_that_give_the_token_shares_of_the_mix(tmp_path):
    checked_with("mosaicml-streaming", "mosaicml-streaming")
    from streaming import MDSWriter, Stream, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    lengths = unlike_lengths(400)
    sources = {language: str(tmp_path / language) for language in lengths}
    for language, counts in lengths.items():
        with MDSWriter(out=sources[language], columns={"text": "str"}) as writer:
            for count in counts:
                writer.write({"text": " ".join([language] * count)})
    mix = a_mix(processed=60_000)
    means = {language: counts.mean() for language, counts in lengths.items()}
    path = export(
        mix, "mosaicml-streaming", tmp_path / "mix.yaml", sources=sources, tokens_per_document=means
    ).path

    dataset = yaml.safe_load(path.read_text())["train_loader"]["dataset"]
    streams = [Stream(**one) for one in dataset.pop("streams").values()]
    clean_stale_shared_memory()
    drawn = StreamingDataset(streams=streams, batch_size=1, shuffle=True, **dataset)
    tokens = words_by_language(sample["text"] for sample in drawn)
    assert tokens.sum() == pytest.approx(60_000, rel=0.02)  # one epoch is the run
    assert tokens[:, 0].sum() / tokens.sum() == pytest.approx(0.6875, abs=0.01)


@pytest.mark.parametrize("strategy", ["interleave_over", "interleave_under"])
def test_llama_factory_draws_examples_that_give_the_token_shares_of_the_mix(strategy, tmp_path, monkeypatch):
    checked_with("llama-factory", "llamafactory")
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")
    from datasets import Dataset
    from llamafactory.data.data_utils import merge_dataset
    from llamafactory.hparams.data_args import DataArguments
    from omegaconf import OmegaConf
    from transformers import HfArgumentParser

    lengths = unlike_lengths()
    path = export(
        # Weights that are off 1 by as much as a mix may be.
        a_mix({"python": 0.6875, "php": 0.3124991}),
        "llama-factory",
        tmp_path / "mix.yaml",
        sources={"python": "no", "php": "1e3"},
        tokens_per_document={language: counts.mean() for language, counts in lengths.items()},
        mix_strategy=strategy,
    ).path
    (given,) = HfArgumentParser(DataArguments).parse_dict(OmegaConf.to_container(OmegaConf.load(path)))
    assert given.dataset == ["no", "1e3"]
    parts = [Dataset.from_dict({"text": [" ".join([one] * n) for n in lengths[one]]}) for one in lengths]
    share, error = share_and_error(words_by_language(merge_dataset(parts, given, seed=0)["text"]))
    assert error < 0.02
    assert abs(share - 0.6875) < 3 * error


def test_torchtitan_draws_rows_at_the_token_shares_of_the_mix(tmp_path):
    checked_with("torchtitan", "torchtitan")
    from torchtitan.hf_datasets.text_datasets import DATASETS, InterleavedHuggingFaceTextDataLoader

    class Words:
        eos_id = 0

        def encode(self, text, *, add_bos, add_eos):
            return [1 + list(SHARES).index(word) for word in text.split()] + [0]

    # Few documents: every source begins anew several times.
    path = export(
        a_mix(), "torchtitan", tmp_path / "mix.py", sources=documents(tmp_path, unlike_lengths(60))
    ).path
    names: dict = {}
    exec(compile(path.read_text(), path, "exec"), names)  # noqa: S102 - it is the thing under test
    loader = InterleavedHuggingFaceTextDataLoader(
        names["dataloader"], dp_world_size=1, dp_rank=0, tokenizer=Words(), seq_len=16, local_batch_size=1
    )
    rows = [batch["input"] for batch, _ in islice(loader, 2000)]
    tokens = np.array([[int((row == 1).sum()), int((row == 2).sum())] for row in rows])
    for language in SHARES:
        del DATASETS[language]
    share, error = share_and_error(tokens)
    assert error < 0.02
    assert abs(share - 0.6875) < 3 * error
