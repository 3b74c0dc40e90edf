"""Sampled activations against the model's own hidden states, and probes of them from end to end."""

import numpy as np
import pytest
import torch

from babelscope.interp.activations import EXCERPT, Activations, excerpts, sample
from babelscope.interp.language_identity import LanguageProbes, language_identity
from babelscope.interp.streams import TextStream
from babelscope.probes.linear import FOLDS
from tests.interp.test_measures import measured

LINES = ("total = sum(prices)", "return a + b", "while n > 0: n -= 1", "print(names[0])", "count = len(xs)")
TEXTS = {
    "python": [f"{line}  # {n}\n" * 2 for n in range(3) for line in LINES],
    "php": [f"${line.replace(' n', ' $n')}; // {n}\n" * 2 for n in range(2) for line in LINES],
}


@pytest.fixture
def stream():
    return TextStream(TEXTS, tokens=200, window=24)


@pytest.mark.parametrize("tiny", ["gpt2", "llama"], indirect=True)
def test_activations_are_the_models_hidden_states_at_the_sampled_positions(tiny, tokenizer, stream):
    result, reading = measured(tiny, tokenizer, Activations(stream, positions=40))
    places = sample(reading, 40).to_numpy().tolist()
    assert result.sizes["position"] == len(places) == 80
    for position, (window, at) in enumerate(places):
        ids = torch.as_tensor(reading.items[window].ids)[None]
        hidden = tiny.model(ids, output_hidden_states=True, use_cache=False).hidden_states
        for layer in (1, 2):  # the last of hidden_states is normed already
            np.testing.assert_allclose(
                result["activation"].sel(layer=layer)[position],
                hidden[layer][0, at].detach(),
                rtol=1e-4,
                atol=1e-4,
            )
        assert result["token"][position] == reading.items[window].ids[at]
        assert result["language"][position] == reading.languages[reading.language[window]]
        assert result["document"][position] == reading.document[window]


@pytest.mark.parametrize("tiny", ["gpt2"], indirect=True)
def test_activations_do_not_depend_on_batches_or_shards(tiny, tokenizer, stream):
    measure = Activations(stream, positions=5)  # so few that some shards hold none
    one, _ = measured(tiny, tokenizer, measure, tokens=1)
    other, _ = measured(tiny, tokenizer, measure, cuts=9)
    for name in ("position", "token", "language", "document"):
        assert (one[name].to_numpy() == other[name].to_numpy()).all()
    np.testing.assert_allclose(one["activation"], other["activation"], rtol=1e-4, atol=1e-4)


def test_a_sample_has_as_many_files_and_positions_of_every_language_and_no_first_position(tokenizer, stream):
    reading = stream.read(tokenizer)
    sampled = sample(reading, 30)
    language = reading.language[sampled["window"]]
    assert np.bincount(language).tolist() == [30, 30]
    assert (sampled["at"] > 0).all()
    assert not sampled.duplicated().any()
    of_file = [
        np.unique(reading.document[sampled["window"][language == k]], return_counts=True)[1] for k in (0, 1)
    ]
    assert len(of_file[0]) == len(of_file[1])
    assert max(map(np.ptp, of_file)) <= 1  # spread over the files
    assert sampled.equals(sample(stream.read(tokenizer), 30))


def test_excerpts_are_whole_lines_of_long_documents_and_leave_short_ones_alone():
    long = "".join(f"line {n} of a long document\n" for n in range(500))
    cut = excerpts({"python": ["short\n", long, long]})["python"]
    assert cut[0] == "short\n"
    for text in cut[1:]:
        assert len(text) == EXCERPT
        assert "\n" + text in "\n" + long
    assert cut[1] != cut[2]  # not always the same place


@pytest.mark.parametrize("tiny", ["gpt2"], indirect=True)
def test_a_planted_layer_tells_the_language_and_the_others_do_not(tiny, tokenizer, stream):
    found, _ = measured(tiny, tokenizer, Activations(stream, positions=80))
    rng = np.random.default_rng(0)
    values = rng.standard_normal(found["activation"].shape)
    php = (found["language"] == "php").to_numpy()
    values[1, php, :3] += 4
    result = language_identity(found.copy(data={"activation": values}), permutations=3)
    matched = result["matched"].to_numpy()
    told = result["matched_correct"].to_numpy()[:, matched].mean(1)
    assert told[1] > 0.9
    assert max(told[0], told[2]) < 0.75
    assert result["correct"].to_numpy()[1].mean() > 0.9
    assert result["control"].to_numpy()[1].mean() < 0.75
    assert (result["permuted"].to_numpy()[1] < told[1]).all()
    assert not result["matched_correct"].to_numpy()[:, ~matched].any()


@pytest.mark.parametrize("tiny", ["gpt2"], indirect=True)
def test_text_of_too_few_files_is_refused_in_the_result_with_the_reason(tiny, tokenizer):
    few = Activations(TextStream({"python": TEXTS["python"], "php": TEXTS["php"][:1]}, tokens=200, window=24))
    found, reading = measured(tiny, tokenizer, few)
    done = []
    result = LanguageProbes(few).derive(found, advance=done.append)
    assert f"need {FOLDS} of every language; of php there are 1" in result.attrs["refused"]
    assert done == [len(reading.items)]
