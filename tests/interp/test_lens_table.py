"""The lens table against a direct computation with the model's own hidden states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from babelscope.core.errors import InputError
from babelscope.interp.lens_table import LensTable, lens_table, spellings
from babelscope.interp.prompt_texts import (
    NOTHING,
    ProbePrompts,
    Prompt,
    PromptTexts,
    ends_within_a_token,
    examples,
    own_identifiers,
    read_prompts,
)
from babelscope.interp.streams import PromptStream
from babelscope.interp.survey import TOP
from babelscope.probes.identifiers import Probe, ProbeSet
from tests.interp.test_measures import measured
from tests.questions import FEW, PROBES, TEXTS

PROMPT = "n = len(xs) + count"
IDENTIFIERS = PromptStream(PROBES, background=TEXTS, minimum=FEW)


def distributions(tiny, ids):
    """Log-probabilities (layer, position, token) by Hugging Face's own outputs, in float64."""
    with torch.no_grad():
        output = tiny.model(torch.as_tensor(ids)[None], output_hidden_states=True, use_cache=False)
        head = tiny.model.get_output_embeddings()
        # The last of `hidden_states` is normed already: the model's own logits stand for it.
        inner = [head(tiny.anatomy.final_norm(hidden)) for hidden in output.hidden_states[1:-1]]
    return torch.stack([*inner, output.logits])[:, 0].double().log_softmax(-1).numpy()


def test_every_cell_is_what_a_direct_computation_gives(tiny, tokenizer):
    table = lens_table(tiny.anatomy, tokenizer, PROMPT)
    ids = tokenizer(PROMPT)["input_ids"]
    logs = distributions(tiny, ids)
    assert table["token"].shape == (*logs.shape[:2], TOP)
    likely = np.sort(np.exp(logs), axis=-1)[..., : -TOP - 1 : -1]
    np.testing.assert_allclose(table["probability"], likely, rtol=2e-3, atol=1e-6)
    named = np.take_along_axis(np.exp(logs), table["token"].to_numpy(), axis=-1)
    np.testing.assert_allclose(table["probability"], named, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(table["entropy"], -(np.exp(logs) * logs).sum(-1), rtol=1e-3, atol=1e-4)
    assert table["given"].to_numpy().tolist() == ids
    assert table["next"].to_numpy().tolist() == [*ids[1:], NOTHING]
    assert "".join(table["given_text"].to_numpy()) == PROMPT


@pytest.mark.parametrize("tiny", ["gpt2"], indirect=True)
def test_prompts_of_unlike_length_are_each_as_if_alone(tiny, tokenizer):
    texts = ["a", PROMPT, "$n = 1"]
    stream = PromptTexts([Prompt(text) for text in texts])
    for options in ({}, {"tokens": 1, "cuts": 3}):
        whole, _ = measured(tiny, tokenizer, LensTable(stream), **options)
        for row, text in enumerate(texts):
            alone = lens_table(tiny.anatomy, tokenizer, text)
            mine = whole.isel(prompt=row, position=slice(alone.sizes["position"]))
            np.testing.assert_allclose(mine["entropy"], alone["entropy"], rtol=1e-3, atol=1e-4)
            assert (mine["text"] == alone["text"]).all()
            empty = whole.isel(prompt=row, position=slice(alone.sizes["position"], None))
            assert (empty["text"] == "").all()
            assert empty["probability"].isnull().all()


@pytest.mark.parametrize("tiny", ["gpt2"], indirect=True)
def test_the_last_positions_are_those_of_the_whole_table(tiny, tokenizer):
    whole = lens_table(tiny.anatomy, tokenizer, PROMPT)
    stream = PromptTexts([Prompt(PROMPT), Prompt("a")])
    last, _ = measured(tiny, tokenizer, LensTable(stream, last=3))
    np.testing.assert_allclose(
        last["probability"].isel(prompt=0), whole["probability"].isel(position=slice(-3, None)), rtol=1e-4
    )
    assert (
        last["given_text"].isel(prompt=0).to_numpy().tolist() == whole["given_text"][-3:].to_numpy().tolist()
    )
    assert last["start"].to_numpy().tolist() == [whole.sizes["position"] - 3, 0]


@pytest.mark.parametrize("tiny", ["gpt2"], indirect=True)
def test_a_token_is_some_languages_only_where_it_begins_its_identifiers_alone(tiny, tokenizer):
    table = lens_table(tiny.anatomy, tokenizer, PROMPT, identifiers=IDENTIFIERS)
    sets = IDENTIFIERS.read(tokenizer).sets
    for which, language in enumerate(table["language"].to_numpy()):
        own = {int(t) for (_, spoken), found in sets.items() if spoken == language for t in found}
        others = {int(t) for (_, spoken), found in sets.items() if spoken != language for t in found}
        expected = np.isin(table["token"], list(own - others))
        np.testing.assert_array_equal(table["language_of"] == which, expected)


def test_a_token_that_begins_identifiers_of_two_languages_is_nobodys(tokenizer):
    twice = ProbeSet(
        (
            *PROBES.probes,
            Probe("tell", "python", "a = ", "count", "(x)"),  # PHP's for `length`
            Probe("tell", "php", "a = ", "echo", "(x)"),
        )
    )
    reading = PromptStream(twice, background={}, minimum=FEW).read(tokenizer)
    own = own_identifiers(reading)
    (count,) = reading.sets["tell", "python"]
    assert count in reading.sets["length", "php"]
    assert not any(count in tokens for tokens in own.values())
    assert own["php"], "PHP must have another word for this test"


def test_of_every_concept_the_shortest_prompt_is_shown_and_what_came_next_is_its_identifier(tokenizer):
    reading = IDENTIFIERS.read(tokenizer)
    chosen = examples(reading, "php")
    assert [prompt.concept for prompt in chosen] == ["length", "show"]
    shortest = min(len(item.ids) for item in reading.items)
    assert {len(item.ids) for item in read_prompts(chosen, tokenizer).items} == {shortest}
    found = ProbePrompts(IDENTIFIERS, language="php", most=1).read(tokenizer)
    assert len(found.items) == 1
    assert found.following[0] in reading.sets["length", "php"]
    with pytest.raises(InputError, match="no probe of 'ruby' is usable; there are some of"):
        ProbePrompts(IDENTIFIERS, language="ruby").read(tokenizer)


def test_streams_that_differ_have_different_keys():
    keys = {
        PromptTexts([Prompt("a")]).key,
        PromptTexts([Prompt("a", "b")]).key,
        PromptTexts([Prompt("a")], identifiers=IDENTIFIERS).key,
        ProbePrompts(IDENTIFIERS, language="php").key,
        ProbePrompts(IDENTIFIERS, language="python").key,
    }
    assert len(keys) == 5


def test_prompts_that_cannot_be_read_are_refused_with_what_is_wrong(tokenizer):
    with pytest.raises(InputError, match="at least one prompt"):
        PromptTexts([])
    with pytest.raises(InputError, match="'' has no token"):
        PromptTexts([Prompt("")]).read(tokenizer)
    with pytest.raises(InputError, match="has 9 tokens and the model takes 8"):
        PromptTexts([Prompt("Z" * 9)], context=8).read(tokenizer)
    assert PromptTexts([Prompt("Z" * 8)], context=8).read(tokenizer)


def test_an_end_in_white_space_that_the_next_word_would_take_is_noticed(tokenizer):
    """The tokenizer has " print" for a token, and nothing that begins with a line break."""
    assert ends_within_a_token(tokenizer, "n = ")
    assert not ends_within_a_token(tokenizer, "n =")
    assert not ends_within_a_token(tokenizer, "n =\n")
    assert not ends_within_a_token(tokenizer, "n = len")


def test_a_row_of_the_unembedding_without_a_token_goes_by_its_number(tokenizer):
    assert spellings(tokenizer, [len(tokenizer) + 3]) == {
        NOTHING: "",
        len(tokenizer) + 3: f"<{len(tokenizer) + 3}>",
    }


def test_a_token_alone_keeps_the_white_space_that_a_decoder_drops_at_the_beginning():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"\u2581len": 0, "len": 1, "\u2581": 2}
    sentence = Tokenizer(models.WordLevel(vocabulary, unk_token="len"))
    sentence.pre_tokenizer = pre_tokenizers.Metaspace()
    sentence.decoder = decoders.Metaspace()
    found = spellings(PreTrainedTokenizerFast(tokenizer_object=sentence), [0, 1, 2, NOTHING])
    assert found == {0: " len", 1: "len", 2: " ", NOTHING: ""}
