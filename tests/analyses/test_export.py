"""What is exported against the stacks that read it."""

import json
import subprocess
import sys

import datasets
import numpy as np
import pytest

from babelscope.analyses.export import export, formats
from babelscope.core.errors import InputError
from babelscope.corpora.mix import Mix


@pytest.fixture(autouse=True)
def cache_in_a_folder_of_the_test(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


@pytest.fixture
def mix():
    return make_mix({"python": 0.6875, "php": 0.3125})


def make_mix(weights, unique_tokens=None):
    languages = {
        name: {"weight": weight, "unique_tokens": (unique_tokens or {}).get(name)}
        for name, weight in weights.items()
    }
    document = {"languages": languages, "pivot": "python", "verdict": "Two\nlines.", "method": "algorithm-1"}
    return Mix.parse(document, origin="test")


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


def megatron_blend(words):
    """`get_blend_from_list` of megatron-core 0.16.1, after its source."""
    if words is None or len(words) % 2:
        return words
    return list(words[1::2]), [float(word) for word in words[::2]]


def test_every_format_states_its_unit_and_where_its_syntax_was_read():
    assert {"json", "hf-datasets", "megatron"} <= set(formats())
    for name, one in formats().items():
        assert one.name == name
        assert one.unit
        assert one.source


def test_an_unknown_format_is_refused_with_the_list_of_formats(mix, tmp_path):
    with pytest.raises(InputError, match=r"'mosaic'.*hf-datasets, json, megatron"):
        export(mix, "mosaic", tmp_path / "mix")


def test_an_option_that_the_format_lacks_is_refused(mix, tmp_path):
    with pytest.raises(InputError, match="json has no option 'sources'"):
        export(mix, "json", tmp_path / "mix.json", sources={})


def test_a_missing_option_is_named(mix, tmp_path):
    with pytest.raises(InputError, match="megatron needs the option 'sources'"):
        export(mix, "megatron", tmp_path / "mix.sh")


def test_the_json_document_reads_back_as_the_same_mix(mix, tmp_path):
    assert Mix.load(export(mix, "json", tmp_path / "mix.json")) == mix


@pytest.mark.parametrize("format", ["megatron", "hf-datasets"])
def test_a_language_without_a_source_is_named_and_nothing_is_written(format, mix, tmp_path):
    with pytest.raises(InputError, match="given for 'php'"):
        export(mix, format, tmp_path / "mix.sh", sources={"python": "a"})
    with pytest.raises(InputError, match="'ruby', but the mix has only: python, php"):
        export(mix, format, tmp_path / "mix.sh", sources={"python": "a", "php": "b", "ruby": "c"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("strategy", ["all_exhausted", "first_exhausted"])
def test_interleaving_documents_of_unlike_lengths_gives_the_token_shares_of_the_mix(strategy, mix, tmp_path):
    rng = np.random.default_rng(0)
    lengths = {"python": rng.integers(5, 15, 2000), "php": rng.integers(40, 80, 2000)}
    for language, counts in lengths.items():
        write_documents(tmp_path / f"{language}.jsonl", language, counts)
    script = export(
        mix,
        "hf-datasets",
        tmp_path / "mixed.py",
        sources={language: str(tmp_path / f"{language}.jsonl") for language in lengths},
        tokens_per_document={language: counts.mean() for language, counts in lengths.items()},
        stopping_strategy=strategy,
    )
    share, error = share_and_error(tokens_read(script))
    assert error < 0.02
    assert abs(share - 0.6875) < 3 * error
    # Drawing documents with the token shares themselves would give far more php.
    naive = 0.6875 * lengths["python"].mean() / (0.6875 * lengths["python"].mean() + 0.3125 * 59.5)
    assert abs(naive - 0.6875) > 10 * error


def test_packed_rows_of_one_length_are_drawn_with_the_token_shares(mix, tmp_path):
    for language in mix.languages:
        write_documents(tmp_path / f"{language}.jsonl", language, [16] * 2000)
    sources = {language: str(tmp_path / f"{language}.jsonl") for language in mix.languages}
    script = export(mix, "hf-datasets", tmp_path / "mixed.py", sources=sources, tokens_per_document=16)
    share, error = share_and_error(tokens_read(script))
    assert abs(share - 0.6875) < 3 * error


def test_documents_are_down_sampled_to_the_unique_tokens_of_the_mix(tmp_path):
    mix = make_mix({"python": 0.8, "php": 0.2}, unique_tokens={"python": 8000, "php": 2000})
    for language in mix.languages:
        rows = [{"text": f"{language} {number}"} for number in range(5000)]
        (tmp_path / f"{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = {language: str(tmp_path / f"{language}.jsonl") for language in mix.languages}
    script = export(mix, "hf-datasets", tmp_path / "mixed.py", sources=sources, tokens_per_document=2)
    names: dict = {}
    exec(compile(script.read_text(), script, "exec"), names)  # noqa: S102
    seen = set(names["mixed"]["text"])
    assert sum(text.startswith("php") for text in seen) == 1000
    assert sum(text.startswith("python") for text in seen) == 4000


def test_documents_are_not_exported_without_their_mean_length(mix, tmp_path):
    sources = {"python": "a.jsonl", "php": "b.jsonl"}
    with pytest.raises(InputError, match="give tokens_per_document"):
        export(mix, "hf-datasets", tmp_path / "mixed.py", sources=sources)
    lengths = {"python": 100, "php": 0}
    with pytest.raises(InputError, match="php has 0 tokens per document"):
        export(mix, "hf-datasets", tmp_path / "mixed.py", sources=sources, tokens_per_document=lengths)


def test_a_strategy_that_misses_the_shares_is_refused(mix, tmp_path):
    with pytest.raises(InputError, match="all_exhausted_without_replacement"):
        export(
            mix,
            "hf-datasets",
            tmp_path / "mixed.py",
            sources={"python": "a.jsonl", "php": "b.jsonl"},
            tokens_per_document=10,
            stopping_strategy="all_exhausted_without_replacement",
        )


def test_megatron_reads_the_weights_of_the_mix_from_all_three_files(mix, tmp_path):
    sources = {"python": "/d/python_text_document", "php": "/d/php_text_document"}
    expected = (["/d/python_text_document", "/d/php_text_document"], [0.6875, 0.3125])

    words = export(mix, "megatron", tmp_path / "mix.txt", sources=sources).read_text().split()
    assert megatron_blend(words) == expected

    splits = json.loads(export(mix, "megatron", tmp_path / "mix.json", sources=sources).read_text())
    assert megatron_blend(splits["train"]) == expected
    assert [megatron_blend(splits[name]) for name in ("valid", "test")] == [None, None]

    script = export(mix, "megatron", tmp_path / "mix.sh", sources=sources)
    command = f'source {script}; printf "%s\\n" "${{DATA_ARGS[@]}}"'
    flags = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout.split()
    assert flags[0] == "--train-data-path"
    assert megatron_blend(flags[1:]) == expected


def test_a_language_of_weight_zero_is_left_out_of_the_blend_which_megatron_would_refuse(tmp_path):
    mix = make_mix({"python": 1.0, "php": 0.0})
    path = export(mix, "megatron", tmp_path / "mix.txt", sources={"python": "p", "php": "q"})
    assert path.read_text().split() == ["1", "p"]


@pytest.mark.parametrize(
    ("prefix", "says"), [("/d/my data", "white space"), ("/d/x.bin", "'/d/x'"), ("", "white space")]
)
def test_a_prefix_that_megatron_would_misread_is_refused(prefix, says, mix, tmp_path):
    with pytest.raises(InputError, match=says):
        export(mix, "megatron", tmp_path / "mix.sh", sources={"python": "p", "php": prefix})


def test_the_ending_of_the_path_picks_the_megatron_layout(mix, tmp_path):
    with pytest.raises(InputError, match=r"\.sh .*\.txt .*\.json"):
        export(mix, "megatron", tmp_path / "mix.yaml", sources={"python": "p", "php": "q"})


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
        "EXPORT = Export(name='another', unit='token', source='', verified=None, write=print)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["another", "hf-datasets", "json", "megatron"]
