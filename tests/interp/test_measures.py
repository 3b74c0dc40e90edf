"""Each measure against a straightforward computation of the same thing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from babelscope.core.errors import InputError
from babelscope.interp.anatomy import Anatomy
from babelscope.interp.loss import LanguageLoss
from babelscope.interp.neurons import TransferringNeurons
from babelscope.interp.observe import observe
from babelscope.interp.streams import PromptStream, TextStream
from babelscope.interp.working_language import WorkingLanguage, intermediate_layers, matched_sets
from babelscope.probes.identifiers import Probe, ProbeSet
from tests.conftest import make_model
from tests.questions import FEW, PROBES, TEXTS


def measured(tiny, tokenizer, measure, *, tokens=1 << 12, cuts=1):
    """What the executor does, without its store: shards, observers, combination."""
    reading = measure.stream.read(tokenizer)
    parts = []
    for shard in np.array_split(np.arange(len(reading.items)), cuts):
        some = [reading.items[i] for i in shard]
        observer = measure.observer(tiny.anatomy, reading, some)
        observe(tiny.anatomy, some, [(measure.sites, observer)], tokens=tokens)
        parts.append(observer.result())
    return measure.combine(parts, reading), reading


def test_loss_is_the_models_own_cross_entropy(tiny, tokenizer):
    stream = TextStream(TEXTS, tokens=30, window=16)
    result, reading = measured(tiny, tokenizer, LanguageLoss(stream))
    for document in range(result.sizes["document"]):
        nll, tokens = 0.0, 0
        for item in reading.items:
            if reading.document[item.index] == document:
                ids = torch.as_tensor(item.ids)[None]
                nll += tiny.model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
                tokens += ids.shape[1] - 1
        assert result["nll"][document].item() == pytest.approx(nll, rel=1e-4)
        assert result["tokens"][document].item() == tokens


def test_every_language_is_read_to_the_same_number_of_tokens(tokenizer):
    reading = TextStream(TEXTS, tokens=30, window=16).read(tokenizer)
    read = [sum(len(i.ids) for i in reading.items if reading.language[i.index] == k) for k in (0, 1)]
    assert read == [30, 30]
    most = TextStream(TEXTS, tokens=9999, window=16).read(tokenizer)
    read = [sum(len(i.ids) for i in most.items if most.language[i.index] == k) for k in (0, 1)]
    assert abs(read[0] - read[1]) <= 1  # a last token alone predicts nothing
    assert min(read) > 30


def test_bytes_are_those_of_the_predicted_tokens(tokenizer):
    reading = TextStream({"python": ["é = 'ü'\n"]}, window=64).read(tokenizer)
    first = tokenizer.decode(reading.items[0].ids[:1])
    whole = len("é = 'ü'\n".encode())
    assert reading.n_bytes.sum() == whole - len("é".encode())  # its first token begins the é
    assert len(first) == 1


def test_firing_counts_are_those_of_a_loop_over_unpadded_sequences(tiny, tokenizer):
    result, reading = measured(tiny, tokenizer, TransferringNeurons(TextStream(TEXTS, tokens=30, window=16)))
    result = result.sum("block")
    expected = np.zeros(result["total"].shape, dtype=np.int64)
    for layer, gate in enumerate(tiny.anatomy.gates):
        seen = []
        handle = gate.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out[0]))
        for item in reading.items:
            tiny.model(torch.as_tensor(item.ids)[None], use_cache=False)
            expected[reading.language[item.index], layer] += (seen.pop() > 0).sum(0).numpy()
        handle.remove()
    # A pre-activation within rounding of 0 may fall on either side of it.
    assert np.abs(result["total"].to_numpy() - expected).sum() <= 2
    assert result["tokens"].to_numpy().tolist() == [30, 30]


def test_working_language_reads_the_cells_that_a_direct_computation_reads(tiny, tokenizer):
    stream = PromptStream(PROBES, background=TEXTS, minimum=FEW)
    result, reading = measured(tiny, tokenizer, WorkingLanguage(stream))
    unembedding = tiny.model.get_output_embeddings()
    for item in reading.items:
        concept = reading.probes[item.index].concept
        sets = [reading.sets[concept, language] for language in reading.languages]
        ids = torch.as_tensor(item.ids)[None]
        hidden = tiny.model(ids, output_hidden_states=True, use_cache=False).hidden_states
        for layer in (1, 2):  # the last entry of hidden_states is normed already
            logits = unembedding(tiny.anatomy.final_norm(hidden[layer][0, -1])).detach().double().numpy()
            probabilities = np.exp(logits - logits.max())
            probabilities /= probabilities.sum()
            mass = [probabilities[tokens].sum() for tokens in sets]
            mean = np.array([np.exp(logits[tokens] - logits.max()).mean() for tokens in sets])
            cell = result.sel(layer=layer, prompt=item.index)
            np.testing.assert_allclose(cell["mass"], mass, rtol=2e-3)
            np.testing.assert_allclose(cell["share"], mean / mean.sum(), rtol=2e-3)
            best = np.argsort(-logits, kind="stable")[:5]
            expected = next((i for i, tokens in enumerate(sets) if best[0] in tokens), -1)
            assert cell["top"].item() == expected
            assert cell["top_token"].to_numpy().tolist() == best.tolist()
            np.testing.assert_allclose(cell["top_probability"], probabilities[best], rtol=2e-3)
            entropy = -(probabilities * np.log(probabilities)).sum()
            assert cell["entropy"].item() == pytest.approx(entropy, rel=2e-3, abs=1e-4)
            right = sets[reading.languages.index(reading.probes[item.index].language)]
            likelier = int((logits > logits[right].max()).sum())
            assert cell["rank"].item() == pytest.approx(1 + likelier, abs=1)  # ties within rounding


def test_the_nulls_of_a_cell_are_those_that_a_direct_computation_reads(tiny, tokenizer):
    """The same sets at another position, and random sets at the same one."""
    stream = PromptStream(PROBES, background=TEXTS, minimum=FEW)
    result, reading = measured(tiny, tokenizer, WorkingLanguage(stream))
    random, unembedding = matched_sets(reading), tiny.model.get_output_embeddings()
    for item in reading.items[::3]:
        probe = reading.probes[item.index]
        keys = [(probe.concept, language) for language in reading.languages]
        ids = torch.as_tensor(item.ids)[None]
        hidden = tiny.model(ids, output_hidden_states=True, use_cache=False).hidden_states[2][0]
        logits = unembedding(tiny.anatomy.final_norm(hidden)).detach().double()
        there, here = logits[reading.elsewhere[item.index]], logits[-1]
        cell = result.sel(layer=2, prompt=item.index)
        mass = [there.softmax(-1)[reading.sets[key]].sum() for key in keys]
        mean = np.array([there[reading.sets[key]].exp().mean() for key in keys])
        np.testing.assert_allclose(cell["elsewhere_mass"], mass, rtol=2e-3)
        np.testing.assert_allclose(cell["elsewhere_share"], mean / mean.sum(), rtol=2e-3)
        drawn = [here[random[key]] for key in keys]  # (draw, member) of each language
        mass = np.stack([here.softmax(-1)[random[key]].sum(-1) for key in keys], -1)
        mean = np.stack([logit.exp().mean(-1) for logit in drawn], -1)
        np.testing.assert_allclose(cell["null_mass"], mass, rtol=2e-3)
        np.testing.assert_allclose(cell["null_share"], mean / mean.sum(-1, keepdims=True), rtol=2e-3)
        on_top = np.stack([(random[key] == here.argmax().item()).any(-1) for key in keys], -1)
        np.testing.assert_array_equal(cell["null_top"], on_top)
        right = drawn[reading.languages.index(probe.language)].amax(-1, keepdim=True)
        ranks = 1 + (here > right).sum(-1).numpy()  # of one draw, whichever
        assert np.abs(ranks - cell["null_rank"].item()).min() <= 1  # ties within rounding


def test_random_sets_hold_tokens_of_like_frequency_and_nobodys_identifier():
    frequency = np.random.default_rng(0).permutation(1000)
    sets = {("length", "php"): np.array([3, 500]), ("length", "python"): np.array([7])}
    drawn = matched_sets(SimpleNamespace(sets=sets, frequency=frequency))
    for key, tokens in drawn.items():
        assert tokens.shape == (20, len(sets[key]))
        assert not np.isin(tokens, [3, 500, 7]).any()
        assert np.abs(frequency[tokens] - frequency[sets[key]]).max() <= 22  # 20 neighbours, at an end too
        assert len(np.unique(tokens)) > 10


@pytest.mark.parametrize("measure", [LanguageLoss, TransferringNeurons])
def test_results_do_not_depend_on_batches_or_shards(tiny, tokenizer, measure):
    stream = TextStream(TEXTS, tokens=30, window=16)
    one, _ = measured(tiny, tokenizer, measure(stream), tokens=1)
    other, _ = measured(tiny, tokenizer, measure(stream), cuts=3)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=2)


def test_working_language_does_not_depend_on_batches_or_shards(tiny, tokenizer):
    measure = WorkingLanguage(PromptStream(PROBES, background=TEXTS, minimum=FEW))
    one, _ = measured(tiny, tokenizer, measure, tokens=1)
    other, _ = measured(tiny, tokenizer, measure, cuts=3)
    for name in set(one) - {"top", "elsewhere_top", "null_top", "top_token"}:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-5, err_msg=name)
    assert (one["top"] == other["top"]).mean() > 0.99  # a tie may fall either way


def test_working_language_does_not_depend_on_the_order_of_the_prompts(tiny, tokenizer):
    found = []
    for order in (1, -1):
        probes = ProbeSet(PROBES.probes[::order])
        result, reading = measured(
            tiny, tokenizer, WorkingLanguage(PromptStream(probes, background=TEXTS, minimum=FEW))
        )
        cells = result.sel(language=list(PROBES.languages))
        found.append({p: cells.isel(prompt=i) for i, p in enumerate(reading.probes)})
    for probe, cell in found[0].items():
        for name in ("share", "mass", "entropy", "rank", "elsewhere_share", "null_share", "null_rank"):
            np.testing.assert_allclose(cell[name], found[1][probe][name], rtol=1e-3, atol=1e-5)


def test_working_language_in_bfloat16_is_that_in_float32_within_two_hundredths(tokenizer):
    """Weights of a usual size: the tiny models' are four times as large, so that small errors grow."""
    model = make_model("llama")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.div_(4)
    measure = WorkingLanguage(PromptStream(PROBES, background=TEXTS, minimum=FEW))
    shares = []
    for dtype in (torch.float32, torch.bfloat16):
        tiny = SimpleNamespace(anatomy=Anatomy(model.to(dtype)))
        result, _ = measured(tiny, tokenizer, measure)
        shares.append(result["share"].to_numpy())
    np.testing.assert_allclose(shares[0], shares[1], atol=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_working_language_on_a_gpu_is_that_on_the_cpu(tokenizer):
    model = make_model("llama")
    measure = WorkingLanguage(PromptStream(PROBES, background=TEXTS, minimum=FEW))
    one, other = (
        measured(SimpleNamespace(anatomy=Anatomy(model.to(device))), tokenizer, measure)[0]
        for device in ("cpu", "cuda")
    )
    for name in ("share", "mass", "entropy", "null_share", "elsewhere_mass"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-2, atol=1e-4)


def test_without_the_vocabulary_shares_are_the_same_and_nothing_else_is_there(tiny, tokenizer):
    stream = PromptStream(PROBES, background=TEXTS, minimum=FEW)
    whole, _ = measured(tiny, tokenizer, WorkingLanguage(stream))
    quick, _ = measured(tiny, tokenizer, WorkingLanguage(stream, vocabulary=False))
    assert set(quick) == {"share", "elsewhere_share", "null_share"}
    for name in quick:
        np.testing.assert_array_equal(quick[name], whole[name])


def test_a_language_that_does_not_name_a_concept_has_no_share_and_changes_nobodys(tiny, tokenizer):
    stream = PromptStream(PROBES, background=TEXTS, minimum=FEW)
    alone, _ = measured(tiny, tokenizer, WorkingLanguage(stream))
    third = Probe("length", "go", "n := ", "ct", "(xs)")
    wider, reading = measured(
        tiny,
        tokenizer,
        WorkingLanguage(PromptStream(ProbeSet((*PROBES.probes, third)), background=TEXTS, minimum=FEW)),
    )
    assert reading.languages == ("python", "php", "go")
    show = wider.isel(prompt=np.flatnonzero(wider["concept"] == "show"))
    before = alone.isel(prompt=np.flatnonzero(alone["concept"] == "show"))
    for name in ("share", "mass"):
        assert show[name].sel(language="go").isnull().all()
        known = show[name].sel(language=["python", "php"])
        np.testing.assert_allclose(known, before[name], rtol=1e-3, atol=1e-6)
    length = wider.isel(prompt=np.flatnonzero(wider["concept"] == "length"))
    np.testing.assert_allclose(length["share"].sum("language"), 1, rtol=1e-5)


def test_prompts_end_right_before_the_token_with_the_identifiers_first_character(tokenizer):
    reading = PromptStream(PROBES, background=TEXTS, minimum=FEW).read(tokenizer)
    for item, probe in zip(reading.items, reading.probes, strict=True):
        assert tokenizer.decode(item.ids).rstrip() == probe.prompt.rstrip()
        next_token = reading.sets[probe.concept, probe.language]
        starts = {tokenizer.decode([t]).strip()[:1] for t in next_token}
        assert probe.identifier[0] in starts


def test_identifiers_that_begin_alike_are_dropped_with_the_reason(tokenizer):
    alike = ProbeSet(
        (
            *PROBES.probes,
            Probe("text", "python", "a = ", "count", "(x)"),
            Probe("text", "php", "a = ", "countable", "(x)"),
        )
    )
    reading = PromptStream(alike, background=TEXTS, minimum=FEW).read(tokenizer)
    assert "text" not in reading.concepts
    assert any("begins the identifier of php too" in reason for reason in reading.dropped)


def test_a_first_token_that_is_a_mere_fragment_is_dropped_with_the_reason(tokenizer):
    long = ProbeSet(
        (
            *PROBES.probes,
            Probe("last", "php", "a = ", "zebra", ";"),
            Probe("last", "python", "a = ", "len", ";"),
        )
    )
    reading = PromptStream(long, background=TEXTS, minimum=FEW).read(tokenizer)
    assert "last" not in reading.concepts
    assert any(
        "php last" in reason and "is less than half of 'zebra'" in reason for reason in reading.dropped
    )


def test_a_tokenizer_without_usable_identifiers_is_refused_with_what_is_left_and_why(tokenizer):
    alike = ProbeSet(
        (Probe("text", "python", "a = ", "count", "(x)"), Probe("text", "php", "a = ", "countable", "(x)"))
    )
    with pytest.raises(InputError, match=r"php 0 of 1 concepts and 0 of 1 prompts .*left out: 2 collision"):
        PromptStream(alike, background=TEXTS, minimum=FEW).read(tokenizer)


def test_what_would_have_no_interval_is_refused_unless_less_is_asked_for(tokenizer):
    with pytest.raises(InputError, match=r"python 2 of 2 concepts and 6 of 6 prompts, .* 3 concepts and 20"):
        PromptStream(PROBES, background=TEXTS).read(tokenizer)
    assert len(PromptStream(PROBES, background=TEXTS, minimum=FEW).read(tokenizer).items) == 12


def test_a_prompt_longer_than_the_context_is_refused_by_name_and_never_cut(tokenizer):
    long = "b = b + b; " * 9 + "n = "
    tokens = len(tokenizer(long.rstrip())["input_ids"])  # the space is the identifier's
    probes = ProbeSet((*PROBES.probes, Probe("length", "php", long, "count", "($x)")))
    for context in (tokens, tokens - 1):
        stream = PromptStream(probes, background=TEXTS, context=context, minimum=FEW)
        if context == tokens:
            assert max(len(item.ids) for item in stream.read(tokenizer).items) == tokens
        else:
            message = rf"1 of 13 .*php length 'b = b \+ b; .*{tokens} tokens, the model takes {context}"
            with pytest.raises(InputError, match=message):
                stream.read(tokenizer)


@pytest.mark.parametrize(("layers", "last"), [(24, 19), (6, 5), (4, 3), (12, 10), (2, 1)])
def test_intermediate_layers_leave_out_the_last_five_in_twenty_four(layers, last):
    assert list(intermediate_layers(layers)) == list(range(1, last + 1))
