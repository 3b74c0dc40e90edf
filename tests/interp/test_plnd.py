"""Closed forms of PLND against taking neurons out one by one, by editing the weights of every family."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from babelscope.interp.anatomy import Anatomy
from babelscope.interp.measure import Item
from babelscope.interp.observe import observe
from babelscope.interp.plnd import PlndFfn, PlndKey, PlndQuery, PlndValue, change
from babelscope.interp.streams import TextReading, TextStream
from tests.conftest import FAMILY_CONFIGS, VOCABULARY, make_model
from tests.questions import TEXTS

LAYER = 1
TOKENS = [np.random.default_rng(n).integers(0, VOCABULARY, n) for n in (14, 9)]  # one row is padded
READING = TextReading(
    [Item(ids, i) for i, ids in enumerate(TOKENS)],
    ("python", "php"),
    np.arange(2),
    np.arange(2),
    np.ones(2, dtype=int),
)
STREAM = TextStream(TEXTS, tokens=30, window=16)

HALF = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
VARIANTS = {family: (family, {}) for family in FAMILY_CONFIGS} | {
    "gpt2 scaled by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    "gpt_bigcode multi-head": ("gpt_bigcode", {"multi_query": False}),
    "codegen eight heads": ("codegen", {"n_head": 8, "rotary_dim": 2}),
    "gpt_neox one after the other": ("gpt_neox", {"use_parallel_residual": False, "rope_parameters": HALF}),
    "gpt_neox tied": ("gpt_neox", {"tie_word_embeddings": True}),
    "llama one key": ("llama", {"num_key_value_heads": 1, "attention_bias": True}),
    "llama wide heads, tied": ("llama", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen2 window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "starcoder2 window": ("starcoder2", {"sliding_window": 4}),
}


@pytest.fixture(params=list(VARIANTS), scope="module")
def variant(request):
    family, changes = VARIANTS[request.param]
    layers = {"n_layer" if "n_layer" in FAMILY_CONFIGS[family] else "num_hidden_layers": 2}
    model = make_model(family, **layers | changes).double()
    model.set_attn_implementation("eager")  # shows its patterns
    return family, model


def totals(model, measure):
    """(language, layer, neuron), of both texts in one batch."""
    observer = measure.observer(Anatomy(model), READING, READING.items)
    observe(Anatomy(model), READING.items, [(measure.sites, observer)], tokens=1 << 12)
    found = observer.result()
    assert found["tokens"].sum("block").to_numpy().tolist() == [14, 9]
    return found["total"].sum("block").to_numpy()


def place(family, config, part, head, k):
    """Projection, and its output, that a dimension of a head is: as the family's own code splits it."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    everything, within = heads * width, head * width + k
    third = ("query", "key", "value").index(part)
    match family:
        case "gpt2":
            return "attn.c_attn", third * everything + within
        case "gpt_bigcode" if config.multi_query:
            return "attn.c_attn", within if part == "query" else everything + (third - 1) * width + k
        case "gpt_bigcode":
            return "attn.c_attn", (3 * head + third) * width + k
        case "gpt_neox":
            return "attention.query_key_value", (3 * head + third) * width + k
        case "codegen":  # four quarters of queries, values and keys
            quarter, local = divmod(head, heads // 4)
            which = ("query", "value", "key").index(part)
            return "attn.qkv_proj", (3 * quarter + which) * (everything // 4) + local * width + k
        case _:
            return f"self_attn.{part[0]}_proj", within


@contextmanager
def scaled(projection, output, by):
    """One column of a projection, with its bias, `by` times as large."""
    sideways = type(projection).__name__ == "Conv1D"
    column = projection.weight[:, output] if sideways else projection.weight[output]
    values = [column] if projection.bias is None else [column, projection.bias[output]]
    with torch.no_grad():
        before = [value.clone() for value in values]
        for value in values:
            value.mul_(by)
        yield
        for value, old in zip(values, before, strict=True):
            value.copy_(old)


def outputs(model, module, ids):
    """What a module puts out."""
    found = []
    handle = module.register_forward_hook(lambda _m, _i, out: found.append(out))
    with torch.no_grad():
        model(torch.as_tensor(ids)[None], use_cache=False)
    handle.remove()
    return found[0]


def pattern(model, ids):
    with torch.no_grad():
        return model(torch.as_tensor(ids)[None], use_cache=False, output_attentions=True).attentions[LAYER]


def some(heads, width):
    """The first and the last head, and of each a dimension of every part that a rotary embedding may have."""
    return [(head, k) for head in sorted({0, heads - 1}) for k in (0, width // 4, width // 2 + 1, width - 1)]


def test_a_neuron_of_the_mlp_counts_what_its_layers_output_loses(variant):
    _, model = variant
    anatomy = Anatomy(model)
    found, down = totals(model, PlndFfn(STREAM))[:, LAYER], anatomy.downs[LAYER]
    for neuron in (0, anatomy.d_neurons - 1):
        for text, ids in enumerate(TOKENS):
            before = outputs(model, down, ids)
            # What it reads: a row of the down-projection, which is the other way round in a Conv1D.
            weight = down.weight if type(down).__name__ == "Conv1D" else down.weight.T
            with torch.no_grad():
                old = weight[neuron].clone()
                weight[neuron] = 0
                lost = (outputs(model, down, ids) - before).square().sum()
                weight[neuron] = old
            assert found[text, neuron] == pytest.approx(lost.item(), rel=1e-5)


def test_a_value_counts_what_the_attentions_output_loses(variant):
    family, model = variant
    anatomy = Anatomy(model)
    found, width = totals(model, PlndValue(STREAM))[:, LAYER], anatomy.heads.width
    for head, k in some(anatomy.heads.key_value, width):
        path, output = place(family, model.config, "value", head, k)
        projection = anatomy.blocks[LAYER].get_submodule(path)
        for text, ids in enumerate(TOKENS):
            before = outputs(model, anatomy.attention_outputs[LAYER], ids)
            with scaled(projection, output, 0):
                lost = outputs(model, anatomy.attention_outputs[LAYER], ids) - before
            assert found[text, head * width + k] == pytest.approx(lost.square().sum().item(), rel=1e-5)


@pytest.mark.parametrize("part", ["query", "key"])
def test_a_query_or_key_counts_the_patterns_derivative(variant, part):
    family, model = variant
    anatomy = Anatomy(model)
    heads = anatomy.heads.query if part == "query" else anatomy.heads.key_value
    measure = PlndQuery(STREAM) if part == "query" else PlndKey(STREAM)
    found, width, little = totals(model, measure)[:, LAYER], anatomy.heads.width, 3e-3
    for head, k in some(heads, width):
        path, output = place(family, model.config, part, head, k)
        projection = anatomy.blocks[LAYER].get_submodule(path)
        for text, ids in enumerate(TOKENS):
            with scaled(projection, output, 1 + little):
                more = pattern(model, ids)
            with scaled(projection, output, 1 - little):
                lost = (more - pattern(model, ids)) / (2 * little)
            derivative = lost.square().sum().item()  # of a softmax in float32, whatever the rest is in
            assert found[text, head * width + k] == pytest.approx(derivative, rel=1e-3, abs=3e-8)


@pytest.mark.parametrize(("part", "measure"), [("query", PlndQuery), ("key", PlndKey)])
def test_the_first_order_ranks_columns_as_taking_them_out_does(part, measure):
    model = make_model("llama", num_hidden_layers=2)
    with torch.no_grad():
        for block in model.model.layers:  # patterns that are neither flat nor all on one position
            block.self_attn.q_proj.weight /= 4
    model.set_attn_implementation("eager")
    estimated = totals(model, measure(STREAM))[0, LAYER]
    before, exact = pattern(model, TOKENS[0]), []
    projection = model.model.layers[LAYER].self_attn.get_submodule(f"{part[0]}_proj")
    for output in range(len(estimated)):
        with scaled(projection, output, 0):
            exact.append((pattern(model, TOKENS[0]) - before).square().sum().item())
    assert spearmanr(estimated, exact).statistic > 0.98
    assert np.median(np.abs(np.sqrt(estimated / exact) - 1)) < 0.05


@pytest.mark.parametrize(("family", "turned"), [("gpt2", 0), ("gpt_neox", 2), ("codegen", 4)])
def test_a_query_counts_what_its_key_does_except_where_a_rotary_embedding_turns_it(family, turned):
    """Both add the same product to the scores: these models have a key for every query head."""
    query, key = (totals(make_model(family), one(STREAM)) for one in (PlndQuery, PlndKey))
    alike = np.isclose(query, key, rtol=1e-4, atol=0).reshape(2, -1, 4, 8)  # (language, layer, head, width)
    assert alike[..., turned:].all()
    assert alike[..., :turned].sum() == 0


def test_neurons_of_the_mlp_count_as_published(tiny, tokenizer):
    """‖(h ⊙ mask) W_down‖ with a mask of one neuron, per text, as PLND has it."""
    found = totals(tiny.model, PlndFfn(STREAM))
    for layer, down in enumerate(tiny.anatomy.downs):
        weight = down.weight.T if isinstance(down, nn.Linear) else down.weight
        for text, ids in enumerate(TOKENS):
            h = []
            handle = down.register_forward_pre_hook(lambda _m, inputs, h=h: h.append(inputs[0][0]))
            with torch.no_grad():
                tiny.model(torch.as_tensor(ids)[None], use_cache=False)
            handle.remove()
            masks = torch.eye(tiny.anatomy.d_neurons)
            norms = torch.stack([((h[0] * mask) @ weight).norm() for mask in masks])
            np.testing.assert_allclose(np.sqrt(found[text, layer]), norms.detach(), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("peak", [0.0, 20.0])
def test_the_change_of_a_pattern_is_that_of_the_whole_tensor_even_where_one_entry_is_nearly_all(peak):
    torch.manual_seed(0)
    rows, length, width, turned = 2, 24, 8, 4
    scores = torch.randn(rows, length, length).double()
    scores += peak * torch.nn.functional.one_hot(torch.randint(length, (rows, length)), length)
    p = scores.softmax(-1)
    a, u = (torch.randn(rows, length, width).double() for _ in range(2))
    b, v = (torch.randn(rows, length, turned).double() for _ in range(2))
    u += 5  # an offset that all keys share changes nothing
    real = torch.rand(rows, length) > 0.3
    added = a[:, :, None] * u[:, None]  # (row, query, key, width): what the closed form never holds
    added[..., :turned] += b[:, :, None] * v[:, None]
    lost = p[..., None] * (added - (p[..., None] * added).sum(2, keepdim=True))
    expected = (lost.square().sum(2) * real[..., None]).sum(1)
    found = change(*(x.float() for x in (p, a, b, u, v)), real)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("measure", [PlndFfn, PlndValue, PlndQuery, PlndKey])
def test_the_padding_of_other_texts_and_the_type_of_the_weights_change_little(measure):
    model = make_model("llama")
    together = totals(model, measure(STREAM))
    for text, item in enumerate(READING.items):
        observer = measure(STREAM).observer(Anatomy(model), READING, [item])
        observe(Anatomy(model), [item], [(measure.sites, observer)], tokens=1 << 12)
        alone = observer.result()["total"].sum("block").to_numpy()
        np.testing.assert_allclose(alone[text], together[text], rtol=1e-4, atol=1e-7)
        assert not alone[1 - text].any()
    coarse = totals(model.bfloat16(), measure(STREAM))
    assert np.corrcoef(coarse.ravel(), together.ravel())[0, 1] > 0.98
