"""The tuned lens: nearer to the output than the logit lens, its own model's only, once per checkpoint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.linear_model import Ridge

from babelscope.analyses.executor import Executor
from babelscope.analyses.planning import plan
from babelscope.analyses.store import Store
from babelscope.analyses.sweep import sweep
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.interp import translators as training
from babelscope.interp import tuned_lens as tuned_lens_module
from babelscope.interp.anatomy import Anatomy, Site
from babelscope.interp.lens import LogitLens, TunedLens
from babelscope.interp.measure import Item
from babelscope.interp.streams import PromptStream, TextStream
from babelscope.interp.tuned_lens import TunedTranslators, agreement
from babelscope.interp.working_language import WorkingLanguage
from tests.conftest import byte_tokenizer, make_model
from tests.questions import FEW, PROBES, TEXTS

IDS = torch.tensor([[5, 17, 200, 3, 42]])


def code(documents):
    """Short documents of two languages: a variable, a call on it, the same variable again."""
    rng = np.random.default_rng(0)
    lines = {
        "python": "{0} = len({1}) + len({0})\nprint({0})\n",
        "php": "${0} = count(${1}) + count(${0});\necho ${0};\n",
    }
    return {
        language: [line.format(*rng.choice(list("abcdwxyz"), 2)) for _ in range(documents)]
        for language, line in lines.items()
    }


STREAM = TextStream(code(6), tokens=100, window=16)


def translators_of(anatomy, stream=STREAM):
    measure = TunedTranslators(stream)
    reading = stream.read(byte_tokenizer())
    return measure.combine([measure.drive(anatomy, None, reading, reading.items)], reading), reading


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(training, "STEPS", 3)


def test_what_is_held_out_does_not_shape_the_translators(few_steps):
    anatomy = Anatomy(make_model("gpt2"))
    found, reading = translators_of(anatomy)
    held_out = np.isin(reading.document, found["document"].to_numpy())
    for other, same in ((held_out, True), (~held_out, False)):
        items = [Item(i.ids[::-1].copy(), i.index) if other[i.index] else i for i in reading.items]
        changed = TunedTranslators(STREAM).drive(anatomy, None, replace(reading, items=items), items)
        assert np.array_equal(changed["weight"], found["weight"]) == same
        assert not np.allclose(changed["kl_tuned"], found["kl_tuned"])


@pytest.fixture(scope="module")
def trained():
    """A small model that has learnt such code, and its translators."""
    stream = TextStream(code(60), tokens=3000, window=32)
    reading = stream.read(byte_tokenizer())
    rows = torch.as_tensor(np.stack([i.ids[:16] for i in reading.items if len(i.ids) >= 16]))
    model = make_model("gpt2").train()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.25)
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(80):
        batch = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(step))[:16]]
        loss = model(batch, labels=batch).loss
        adam.zero_grad()
        loss.backward()
        adam.step()
    anatomy = Anatomy(model.eval())
    return anatomy, *translators_of(anatomy, stream)


def test_on_documents_not_trained_on_it_is_nearer_to_the_output_than_the_logit_lens_at_every_layer(trained):
    table = agreement(trained[1])
    assert table["layer"].tolist() == [1, 2]
    assert (table["difference_high"] < 0).all()
    assert (table["tuned"] < table["logit"] / 2).all()
    for name in ("logit", "tuned", "difference"):
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_high"]).all()


def test_steps_on_the_divergence_improve_on_least_squares_alone(trained, monkeypatch):
    anatomy, found, _ = trained
    monkeypatch.setattr(training, "STEPS", 0)
    least_squares, _ = translators_of(anatomy, TextStream(code(60), tokens=3000, window=32))
    assert (agreement(found)["tuned"] < agreement(least_squares)["tuned"]).all()


def test_divergences_are_those_of_a_direct_computation_on_the_held_out_documents(trained):
    anatomy, found, reading = trained
    for language in (0, 1):
        documents = np.unique(reading.document[reading.language == language])
        held_out = [d for d in found["document"].to_numpy() if d in documents]
        assert held_out == documents[1::4].tolist()
    for document in found["document"].to_numpy()[:3]:
        apart = {"kl_logit": [], "kl_tuned": []}
        for item in reading.items:
            if reading.document[item.index] != document:
                continue
            ids = torch.as_tensor(item.ids)[None]
            output = anatomy.model(ids, output_hidden_states=True, use_cache=False)
            last = output.logits[0, 1:].detach().double().log_softmax(-1)
            for name, scale in (("kl_logit", 0.0), ("kl_tuned", 1.0)):
                for layer in (1, 2):
                    hidden = output.hidden_states[layer][0, 1:].detach()
                    one = found.sel(layer=layer)
                    weight, bias = (scale * torch.as_tensor(one[n].to_numpy()) for n in ("weight", "bias"))
                    hidden = hidden + torch.stack([weight @ h for h in hidden]) + bias
                    read = anatomy.model.lm_head(anatomy.final_norm(hidden)).detach().double().log_softmax(-1)
                    apart[name].append((last.exp() * (last - read)).sum(-1).numpy())
        for name, values in apart.items():
            for layer in (1, 2):
                cell = found[name].sel(layer=layer, document=document)
                own = np.concatenate(values[layer - 1 :: 2])
                assert cell.item() == pytest.approx(own.mean(), rel=1e-3, abs=1e-6)
                assert found["positions"].sel(document=document).item() == len(own)


def test_it_begins_as_ridge_regression_on_what_is_missing():
    rng = np.random.default_rng(0)
    hidden, last = rng.normal(2, 3, (50, 6)).astype(np.float32), rng.normal(size=(50, 6)).astype(np.float32)
    weight, bias = training.ridge(torch.as_tensor(hidden), torch.as_tensor(last))
    alpha = tuned_lens_module.RIDGE * hidden.var(0).mean() * len(hidden)
    expected = Ridge(alpha=alpha).fit(hidden, last - hidden)
    np.testing.assert_allclose(weight, expected.coef_, atol=1e-4)
    np.testing.assert_allclose(bias, expected.intercept_, atol=1e-4)


def test_it_reads_each_layer_through_its_own_translator_and_the_last_as_the_model(tiny, few_steps):
    found, _ = translators_of(tiny.anatomy)
    seen = {}
    tiny.anatomy.run(IDS, see={Site.RESIDUAL: lambda _s, layer, hidden: seen.__setitem__(layer, hidden)})
    lens, head = TunedLens(tiny.anatomy, found), tiny.model.get_output_embeddings()
    close = {"atol": 1e-3, "rtol": 1e-3}
    for layer in (1, 2):
        one = found.sel(layer=layer)
        weight, bias = (torch.as_tensor(one[name].to_numpy()) for name in ("weight", "bias"))
        moved = seen[layer] + torch.nn.functional.linear(seen[layer], weight, bias)
        expected = head(tiny.anatomy.final_norm(moved))
        torch.testing.assert_close(lens.logits(seen[layer], layer=layer), expected, **close)
        assert not torch.allclose(LogitLens(tiny.anatomy).logits(seen[layer]), expected, **close)
    torch.testing.assert_close(lens.logits(seen[3], layer=3), tiny.model(IDS).logits, **close)
    assert all(parameter.grad is None for parameter in tiny.model.parameters())
    with pytest.raises(InputError, match="layer=None: a tuned lens differs by layer; give one of 1 to 3"):
        lens.logits(seen[1])


def test_the_same_model_and_text_give_the_same_translators(few_steps):
    torch.manual_seed(1)
    first, _ = translators_of(Anatomy(make_model("gpt2")))
    torch.manual_seed(2)
    xr.testing.assert_identical(first, translators_of(Anatomy(make_model("gpt2")))[0])


def test_no_more_positions_are_kept_than_were_asked_for(few_steps, monkeypatch):
    monkeypatch.setattr(tuned_lens_module, "POSITIONS", 40)
    found, _ = translators_of(Anatomy(make_model("gpt2")))
    assert found["positions"].sum() == 10


def test_logits_in_blocks_train_the_same_translators(few_steps, monkeypatch):
    anatomy = Anatomy(make_model("gpt2"))
    whole, _ = translators_of(anatomy)
    monkeypatch.setattr(training, "LOGITS_AT_ONCE", 300 * 7)  # seven positions; the last block is not full
    blocks, _ = translators_of(anatomy)
    xr.testing.assert_allclose(blocks, whole, rtol=1e-3, atol=1e-5)


def test_translators_are_float32_whatever_the_models_type_and_belong_to_that_type(few_steps):
    anatomy = Anatomy(make_model("llama").bfloat16())
    found, _ = translators_of(anatomy)
    assert found["weight"].dtype == np.float32
    assert np.isfinite(found["kl_tuned"]).all()
    hidden = torch.ones(2, 32, dtype=torch.bfloat16)
    assert TunedLens(anatomy, found).normed(hidden, layer=1).dtype == torch.bfloat16
    with pytest.raises(InputError, match="other weights, or another dtype"):
        TunedLens(Anatomy(make_model("llama")), found)


def test_a_model_that_differs_anywhere_is_refused(few_steps):
    anatomy = Anatomy(make_model("codegen"))
    found, _ = translators_of(anatomy)
    TunedLens(anatomy, found)
    TunedLens(Anatomy(make_model("codegen")), found)  # the same weights, loaded again
    weights = {
        "final norm": anatomy.final_norm.weight,
        "unembedding": anatomy.unembed,
        "its bias": anatomy.unembed_bias,
        "a block": anatomy.downs[1].weight,
    }
    for what, weight in weights.items():
        with torch.no_grad():
            before = weight.clone()
            weight.add_(1e-3) if what == "a block" else weight.view(-1)[7].add_(1e-3)
        with pytest.raises(InputError, match=f"translators of model {found['model'].item()} for model"):
            TunedLens(anatomy, found)
        weight.data = before
    anatomy.final_norm.eps *= 10
    with pytest.raises(InputError, match="translators of model"):
        TunedLens(anatomy, found)


def test_what_are_no_translators_of_this_model_is_refused_with_what_is_wrong(few_steps):
    anatomy = Anatomy(make_model("gpt2"))
    found, _ = translators_of(anatomy)
    with pytest.raises(InputError, match="'weight', 'bias', 'model' not among positions"):
        TunedLens(anatomy, found[["positions"]])
    with pytest.raises(
        InputError, match=r"\(1, 32, 32\) and \(1, 32\), where this model needs \(2, 32, 32\)"
    ):
        TunedLens(anatomy, found.isel(layer=[0]))
    with pytest.raises(InputError, match=r"translators of 2 checkpoints; choose one with .sel\(step="):
        TunedLens(anatomy, xr.concat([found, found], dim=xr.IndexVariable("step", [0, 10])))


def test_a_language_with_one_document_is_refused_by_name():
    texts = code(3) | {"php": ["$n = count($xs);\necho $n;\n" * 9]}
    with pytest.raises(InputError, match="'php' that is read is one; give at least two"):
        translators_of(Anatomy(make_model("gpt2")), TextStream(texts, tokens=100, window=16))


# In a sweep


@pytest.fixture
def series(make_run):
    return Series.open(make_run(steps=(0, 10)), pivot="python", target="php")


def working_language(stream=STREAM):
    return WorkingLanguage(
        PromptStream(PROBES, background=TEXTS, minimum=FEW), translators=TunedTranslators(stream)
    )


def test_every_checkpoint_and_the_random_model_have_translators_of_their_own(series, few_steps):
    results = sweep(series, [working_language()])
    found = results["tuned_lens"]
    names = [*found["model"].to_numpy(), results.null("tuned_lens")["model"].item()]
    assert len(set(names)) == 3
    assert found["weight"].sizes == {"step": 2, "layer": 2, "output": 32, "input": 32}
    at_ten = Anatomy(make_model("gpt2", seed=10))
    TunedLens(at_ten, found.sel(step=10))
    with pytest.raises(InputError, match="translators of model"):
        TunedLens(at_ten, found.sel(step=0))
    reading = PromptStream(PROBES, background=TEXTS, minimum=FEW).read(series.tokenizer)
    lens = TunedLens(at_ten, found.sel(step=10))
    for item in reading.items:
        hidden = at_ten.model(torch.as_tensor(item.ids)[None], output_hidden_states=True).hidden_states
        best = lens.logits(hidden[1][0, -1], layer=1).argmax().item()
        cell = results["working_language"]["top_token"].sel(step=10, layer=1, prompt=item.index)
        assert cell[0].item() == best


def test_killed_between_translators_and_working_language_a_sweep_does_not_train_again(
    series, few_steps, monkeypatch
):
    trained, looked = [], []
    drive, observer = TunedTranslators.drive, WorkingLanguage.observer

    def training_once(self, anatomy, *rest):
        trained.append(anatomy)
        return drive(self, anatomy, *rest)

    def dies(self, *rest):
        looked.append(self)
        if len(looked) == 2:  # the first is the random model
            raise KeyboardInterrupt
        return observer(self, *rest)

    monkeypatch.setattr(TunedTranslators, "drive", training_once)
    monkeypatch.setattr(WorkingLanguage, "observer", dies)
    with pytest.raises(KeyboardInterrupt):
        sweep(series, [working_language()])
    assert len(trained) == 2
    assert sweep(series, [working_language()])["working_language"].sizes["step"] == 2
    assert len(trained) == 3


def test_what_other_translators_read_is_another_result(series):
    measures = (
        working_language(),
        working_language(TextStream(code(6), tokens=90, window=16)),
        WorkingLanguage(PromptStream(PROBES, background=TEXTS, minimum=FEW)),
    )
    executor = Executor(Store(series.state / "store"), [], series)
    assert len({executor.key(measure, "weights") for measure in measures}) == 3


def test_a_dry_run_says_what_training_costs_and_stores_nothing(series, few_steps):
    cost = plan(series, [working_language()])
    assert set(cost["seconds_by_measure"]) == {"loading", "tuned_lens", "working_language"}
    assert cost["seconds"] == pytest.approx(sum(cost["seconds_by_measure"].values()), abs=0.2)
    assert cost["results_missing"] == 4
    assert not (series.state / "store").exists()
    sweep(series, [working_language()])
    for file in (series.state / "store" / "working_language").iterdir():
        file.unlink()
    cost = plan(series, [working_language()])
    assert set(cost["seconds_by_measure"]) == {"loading", "working_language"}
    assert cost["results_missing"] == 2


def test_two_kinds_of_translators_in_one_sweep_are_refused(series):
    other = TunedTranslators(TextStream(code(6), tokens=90, window=16))
    with pytest.raises(InputError, match="two different 'tuned_lens' are wanted"):
        sweep(series, [working_language(), other])
