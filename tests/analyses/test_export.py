"""What is exported against the stacks that read it."""

import json
import subprocess
import sys

import datasets
import numpy as np
import pytest
import yaml

from babelscope.analyses.export import export, formats
from babelscope.core.errors import InputError
from babelscope.corpora.mix import Mix
from tests.analyses.exporting import make_mix, shares_of_draws, sources_of, write


@pytest.fixture(autouse=True)
def cache_in_a_folder_of_the_test(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


@pytest.fixture
def mix():
    return make_mix({"python": 0.6875, "php": 0.3125})


def write_documents(path, language, lengths):
    """JSON Lines with one document per length; a token is a word."""
    rows = ({"text": " ".join([language] * length)} for length in lengths)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def tokens_read(script):
    """Token counts (n, 2) per example of python and php, from running the exported file."""
    names: dict = {}
    exec(compile(script.read_text(), script, "exec"), names)  # noqa: S102 - it is the thing under test
    words = [text.split() for text in names["mixed"]["text"]]
    return np.array([[len(row) * (row[0] == language) for language in ("python", "php")] for row in words])


def share_and_error(tokens):
    """Token share of the first language and its standard error as a ratio of means."""
    total = tokens.sum(1)
    share = tokens[:, 0].sum() / total.sum()
    return share, np.std(tokens[:, 0] - share * total) / (total.mean() * np.sqrt(len(tokens)))


def test_every_format_states_its_unit_and_where_its_syntax_was_read():
    for name, one in formats().items():
        assert one.name == name
        assert one.unit
        assert one.source


def test_an_unknown_format_is_refused_with_the_list_of_formats(mix, tmp_path):
    with pytest.raises(InputError, match=r"'mosaic'.*gpt-neox, hf-datasets, json"):
        export(mix, "mosaic", tmp_path / "mix")


def test_an_option_that_the_format_lacks_is_refused(mix, tmp_path):
    with pytest.raises(InputError, match="json has no option 'sources'"):
        export(mix, "json", tmp_path / "mix.json", sources={})


def test_a_missing_option_is_named(mix, tmp_path):
    with pytest.raises(InputError, match="megatron needs the option 'sources'"):
        export(mix, "megatron", tmp_path / "mix.sh")


def test_the_json_document_reads_back_as_the_same_mix(mix, tmp_path):
    assert Mix.load(export(mix, "json", tmp_path / "mix.json").path) == mix


@pytest.mark.parametrize("format", sorted(set(formats()) - {"json"}))
def test_a_language_without_a_source_is_named_and_nothing_is_written(format, mix, tmp_path):
    path = tmp_path / f"mix{formats()[format].endings[0]}"
    with pytest.raises(InputError, match="given for 'php'"):
        export(mix, format, path, sources={"python": "a"})
    with pytest.raises(InputError, match="'ruby', but the mix has only: python, php"):
        export(mix, format, path, sources={"python": "a", "php": "b", "ruby": "c"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", sorted(formats()))
def test_a_file_with_another_ending_is_refused_with_those_it_may_have(format, mix, tmp_path):
    with pytest.raises(
        InputError, match=rf"mix\.doc: a file for {format} ends in {formats()[format].endings[0]}"
    ):
        export(mix, format, tmp_path / "mix.doc")


@pytest.mark.parametrize("format", sorted(set(formats()) - {"json"}))
def test_a_language_of_weight_zero_is_left_out_and_said(format, tmp_path):
    mix = make_mix({"python": 1.0, "php": 0.0})
    written = write(format, mix, tmp_path)
    assert list(shares_of_draws(written).values()) == [1.0]
    assert "Left out, since its weight is 0: php." in written.notes


@pytest.mark.parametrize("format", sorted(set(formats()) - {"json"}))
def test_notes_stand_in_the_file_where_it_can_hold_comments(format, tmp_path):
    mix = make_mix({"python": 0.5, "php": 0.5, "ruby": 0.0}, {"python": 800, "php": 100})
    written = write(format, mix, tmp_path, means={"python": 10, "php": 30, "ruby": 1})
    text = written.path.read_text()
    assert all(f"# {note}\n" in text for note in written.notes)
    assert formats()[format].unit in text


@pytest.mark.parametrize("format", ["hf-datasets", "llama-factory", "mosaicml-streaming"])
def test_the_conversion_to_documents_is_shown_with_its_numbers(format, mix, tmp_path):
    written = write(format, mix, tmp_path, means={"python": 200, "php": 500})
    # 0.6875 / 200 and 0.3125 / 500 sum to 0.0040625.
    assert "    python: p 0.6875, m 200 tokens, q 0.846154" in written.notes
    assert "    php: p 0.3125, m 500 tokens, q 0.153846" in written.notes


@pytest.mark.parametrize("format", ["hf-datasets", "llama-factory", "mosaicml-streaming"])
def test_documents_are_not_exported_without_their_mean_length(format, mix, tmp_path):
    with pytest.raises(InputError, match="give tokens_per_document"):
        write(format, mix, tmp_path, means=None)
    with pytest.raises(InputError, match="php has 0 tokens per document"):
        write(format, mix, tmp_path, means={"python": 100, "php": 0})


@pytest.mark.parametrize("format", sorted(set(formats()) - {"json", "hf-datasets", "nanotron"}))
def test_a_limit_on_unique_tokens_that_the_syntax_lacks_is_asked_of_the_data(format, tmp_path):
    written = write(format, make_mix({"python": 0.5, "php": 0.5}, {"php": 2000}), tmp_path)
    assert [note for note in written.notes if "Build php from 2000 tokens" in note]
    assert not [note for note in written.notes if "Build python" in note]


@pytest.mark.parametrize("format", sorted(set(formats()) - {"json", "olmo-core"}))
def test_a_source_that_is_read_more_than_once_is_said(format, tmp_path):
    mix = make_mix({"python": 0.5, "php": 0.5}, {"python": 5000, "php": 2000}, {"python": 5000, "php": 5000})
    notes = " ".join(write(format, mix, tmp_path).notes)
    assert "php is read 2.5 times" in notes
    assert "python is read" not in notes


@pytest.mark.parametrize(
    ("format", "option"), [("hf-datasets", "stopping_strategy"), ("llama-factory", "mix_strategy")]
)
def test_where_a_stack_ends_is_said_for_this_mix(format, option, tmp_path):
    mix = make_mix({"python": 0.8, "php": 0.2}, {"python": 8000, "php": 1000})
    first = {"hf-datasets": "first_exhausted", "llama-factory": "interleave_under"}[format]
    # php lasts for 1000 / 0.2 tokens of the mix, python for 8000 / 0.8.
    assert "php decides, at 5000 tokens" in " ".join(write(format, mix, tmp_path, **{option: first}).notes)
    assert "python decides, at 1e+04 tokens" in " ".join(write(format, mix, tmp_path).notes)


@pytest.mark.parametrize("strategy", ["all_exhausted", "first_exhausted"])
def test_interleaving_documents_of_unlike_lengths_gives_the_token_shares_of_the_mix(strategy, mix, tmp_path):
    rng = np.random.default_rng(0)
    lengths = {"python": rng.integers(5, 15, 2000), "php": rng.integers(40, 80, 2000)}
    for language, counts in lengths.items():
        write_documents(tmp_path / f"{language}.jsonl", language, counts)
    written = export(
        mix,
        "hf-datasets",
        tmp_path / "mixed.py",
        sources={language: str(tmp_path / f"{language}.jsonl") for language in lengths},
        tokens_per_document={language: counts.mean() for language, counts in lengths.items()},
        stopping_strategy=strategy,
    )
    share, error = share_and_error(tokens_read(written.path))
    assert error < 0.02
    assert abs(share - 0.6875) < 3 * error
    # Drawing documents with the token shares themselves would give far more php.
    naive = 0.6875 * lengths["python"].mean() / (0.6875 * lengths["python"].mean() + 0.3125 * 59.5)
    assert abs(naive - 0.6875) > 10 * error


def test_packed_rows_of_one_length_are_drawn_with_the_token_shares(mix, tmp_path):
    for language in mix.languages:
        write_documents(tmp_path / f"{language}.jsonl", language, [16] * 2000)
    sources = {language: str(tmp_path / f"{language}.jsonl") for language in mix.languages}
    written = export(mix, "hf-datasets", tmp_path / "mixed.py", sources=sources, tokens_per_document=16)
    share, error = share_and_error(tokens_read(written.path))
    assert abs(share - 0.6875) < 3 * error


def test_documents_are_down_sampled_to_the_unique_tokens_of_the_mix(tmp_path):
    mix = make_mix({"python": 0.8, "php": 0.2}, unique_tokens={"python": 8000, "php": 2000})
    for language in mix.languages:
        rows = [{"text": f"{language} {number}"} for number in range(5000)]
        (tmp_path / f"{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = {language: str(tmp_path / f"{language}.jsonl") for language in mix.languages}
    written = export(mix, "hf-datasets", tmp_path / "mixed.py", sources=sources, tokens_per_document=2)
    names: dict = {}
    exec(compile(written.path.read_text(), written.path, "exec"), names)  # noqa: S102
    seen = set(names["mixed"]["text"])
    assert sum(text.startswith("php") for text in seen) == 1000
    assert sum(text.startswith("python") for text in seen) == 4000


@pytest.mark.parametrize(
    ("format", "option", "strategy"),
    [
        ("hf-datasets", "stopping_strategy", "all_exhausted_without_replacement"),
        ("llama-factory", "mix_strategy", "interleave_once"),
        ("llama-factory", "mix_strategy", "concat"),
    ],
)
def test_a_strategy_that_misses_the_shares_is_refused(format, option, strategy, mix, tmp_path):
    with pytest.raises(InputError, match=f"'{strategy}' does not hold the shares"):
        write(format, mix, tmp_path, **{option: strategy})


@pytest.mark.parametrize("ending", [".sh", ".txt", ".json"])
def test_all_three_files_for_megatron_hold_the_weights_of_the_mix(ending, mix, tmp_path):
    assert shares_of_draws(write("megatron", mix, tmp_path, ending=ending)) == {
        "python": 0.6875,
        "php": 0.3125,
    }


def test_megatron_is_given_all_three_splits(mix, tmp_path):
    splits = json.loads(write("megatron", mix, tmp_path, ending=".json").path.read_text())
    assert splits == {"train": ["0.6875", "python", "0.3125", "php"], "valid": None, "test": None}


@pytest.mark.parametrize(
    ("prefix", "says"), [("/d/my data", "white space"), ("/d/x.bin", "'/d/x'"), ("", "white space")]
)
def test_a_prefix_that_megatron_would_misread_is_refused(prefix, says, mix, tmp_path):
    with pytest.raises(InputError, match=says):
        export(mix, "megatron", tmp_path / "mix.sh", sources={"python": "p", "php": prefix})


@pytest.mark.parametrize(
    ("format", "source", "says"),
    [
        ("gpt-neox", "/d/x.idx", "'/d/x'"),
        ("llama-factory", "a,b", "splits names at commas"),
        ("llama-factory", " a", "strips them"),
        ("olmo-core", "data/php.jsonl", r"\.npy files of token ids, not 'data/php\.jsonl'"),
        ("nanotron", "data/php.ds", r"the folder of 'data/php\.ds'"),
        ("torchtitan-grain", "data/php.parquet", "'data/php.parquet'"),
    ],
)
def test_a_source_that_the_stack_would_misread_is_refused(format, source, says, mix, tmp_path):
    with pytest.raises(InputError, match=says):
        write(format, mix, tmp_path, sources=sources_of(format, mix) | {"php": source})


def test_neox_is_told_not_to_replace_the_weights_by_numbers_of_documents(mix, tmp_path):
    given = yaml.safe_load(write("gpt-neox", mix, tmp_path).path.read_text())
    assert given["weight_by_num_documents"] is False
    assert "data-path" not in given


def test_olmo_core_may_repeat_a_source_as_often_as_the_mix_reads_it(tmp_path):
    mix = make_mix({"python": 0.5, "php": 0.5}, {"python": 5000, "php": 1000})
    written = write("olmo-core", mix, tmp_path, requested_tokens=6000)
    python, php = yaml.safe_load(written.path.read_text())["sources"]
    assert python["max_repetition_ratio"] == 1  # 3000 of 5000
    assert 3 <= php["max_repetition_ratio"] <= 3.1  # 3000 of 1000
    assert "requested_tokens=6000" in " ".join(written.notes)


def test_olmo_core_requests_the_processed_tokens_of_the_mix(tmp_path):
    mix = make_mix({"python": 0.5, "php": 0.5}, {"php": 1000}, {"python": 3000, "php": 3000})
    notes = " ".join(write("olmo-core", mix, tmp_path).notes)
    assert "requested_tokens=6000" in notes
    assert "max_repetition_ratio is 1, since the mix has no epochs for it: python." in notes
    with pytest.raises(InputError, match="requested_tokens is 0"):
        write("olmo-core", mix, tmp_path, requested_tokens=0)


def test_nanotron_keeps_the_unique_tokens_only_where_it_can_for_all(tmp_path):
    weights = {"python": 0.5, "php": 0.5}

    def dataset(unique):
        written = write("nanotron", make_mix(weights, unique), tmp_path)
        (stage,) = yaml.safe_load(written.path.read_text())["data_stages"]
        return stage["data"]["dataset"], " ".join(written.notes)

    all_known, notes = dataset({"python": 7000, "php": 2000})
    assert all_known["dataset_max_tokens"] == [7000, 2000]
    assert "Build" not in notes
    one_known, notes = dataset({"php": 2000})
    assert "dataset_max_tokens" not in one_known
    assert "Build php from 2000 tokens" in notes


def test_a_later_stage_of_nanotron_begins_where_it_is_told_to(mix, tmp_path):
    written = write("nanotron", mix, tmp_path, start_training_step=500, stage="later")
    (stage,) = yaml.safe_load(written.path.read_text())["data_stages"]
    assert (stage["name"], stage["start_training_step"]) == ("later", 500)
    assert "one of them must begin at step 1" in " ".join(written.notes)
    with pytest.raises(InputError, match="start_training_step is 0"):
        write("nanotron", mix, tmp_path, start_training_step=0)


def test_streams_have_a_proportion_and_nothing_that_excludes_it(tmp_path):
    weights = {"python": 0.5, "php": 0.5}
    mix = make_mix(weights, None, {"python": 6000, "php": 6000})
    written = write(
        "mosaicml-streaming",
        mix,
        tmp_path,
        sources={"python": "s3://bucket/python", "php": "/data/php"},
        means={"python": 100, "php": 300},
        split="train",
    )
    dataset = yaml.safe_load(written.path.read_text())["train_loader"]["dataset"]
    assert dataset == {
        "streams": {
            "python": {"remote": "s3://bucket/python", "proportion": 0.75, "split": "train"},
            "php": {"local": "/data/php", "proportion": 0.25, "split": "train"},
        },
        "epoch_size": 80,  # 6000 / 100 and 6000 / 300 samples
    }


def test_names_that_torchtitan_would_take_for_one_are_refused(tmp_path):
    with pytest.raises(InputError, match="lower case; rename one of R, r"):
        write("torchtitan", make_mix({"R": 0.5, "r": 0.5}), tmp_path)


def test_a_new_format_is_one_new_file(tmp_path):
    # In a process of its own, and in a folder of its own that is added to the package there.
    program = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
import babelscope.analyses.export as package
package.__path__.append({str(tmp_path)!r})
print(*package.formats())
"""
    (tmp_path / "another.py").write_text(
        "from babelscope.analyses.export import Export\n"
        "EXPORT = Export(name='another', unit='token', source='', verified=None, endings=(), write=print)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) == {"another", *formats()}
