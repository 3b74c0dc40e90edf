"""One model in memory: after a swap it is what a fresh load gives, and no more than that is held."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from babelscope.checkpoints.checkpoint import Checkpoint
from babelscope.checkpoints.layouts import Place
from babelscope.checkpoints.live import LiveModel
from babelscope.checkpoints.mapping import mapping_of
from babelscope.checkpoints.series import Series
from babelscope.checkpoints.weights import BrokenWeightsError
from babelscope.core.errors import InputError
from tests.checkpoints.test_weights import LORA, as_bin, make_adapter
from tests.conftest import FAMILY_CONFIGS, make_model

IDS = torch.tensor([[1, 7, 250, 3]])


@pytest.fixture
def opened(monkeypatch):
    """Names of the folders that went through `from_pretrained` so far."""
    names = []
    load = AutoModelForCausalLM.from_pretrained

    def recorded(path, *args, **options):
        names.append(path.name)
        return load(path, *args, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", recorded)
    return names


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def assert_same_model(model, expected):
    state, wanted = model.state_dict(), expected.state_dict()
    assert state.keys() == wanted.keys()
    for name in state:
        assert state[name].dtype == wanted[name].dtype, name
        assert torch.equal(state[name], wanted[name]), name
    assert torch.equal(logits(model), logits(expected))


def fresh(checkpoint, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=dtype)


def at(step, folder):
    return Checkpoint(Place(step, folder.name, "checkpoint-", folder))


def edit(checkpoint, change, file="model.safetensors"):
    weights = load_file(checkpoint.path / file)
    weights = change(weights) or weights
    save_file(weights, checkpoint.path / file, metadata={"format": "pt"})


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("family", FAMILY_CONFIGS)
def test_a_swap_gives_each_checkpoints_model_and_only_the_first_is_opened(make_run, family, prefetch, opened):
    series = Series.open(make_run(steps=(0, 10, 20), family=family))
    live = LiveModel(series, prefetch=prefetch)
    order = (*series, *reversed(series.checkpoints))
    for checkpoint, anatomy in live.walk(order):
        assert_same_model(anatomy.model, make_model(family, seed=checkpoint.step))
        assert not anatomy.model.training
    assert opened == ["checkpoint-0"]
    assert_same_model(live.at(series.at(10)).model, make_model(family, seed=10))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILY_CONFIGS)
def test_tied_stays_tied_and_every_parameter_stays_where_it_is(tmp_path, family, tied, opened):
    for step in (0, 10):
        model = make_model(family, seed=step, tie_word_embeddings=tied)
        model.save_pretrained(tmp_path / f"checkpoint-{step}")
    series = Series.open(tmp_path)
    live = LiveModel(series)
    places = []
    for checkpoint, anatomy in live.walk(series):
        model = anatomy.model
        places.append([parameter.data_ptr() for parameter in model.parameters()])
        assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
        assert_same_model(model, make_model(family, seed=checkpoint.step, tie_word_embeddings=tied))
    assert places[0] == places[1]
    assert opened == ["checkpoint-0"]


def test_the_unembedding_that_gpt_neox_renames_is_the_one_on_disk(make_run):
    series = Series.open(make_run(steps=(0, 10), family="gpt_neox"))
    for checkpoint, anatomy in LiveModel(series).walk(series):
        disk = load_file(checkpoint.path / "model.safetensors")
        assert torch.equal(anatomy.unembed, disk["embed_out.weight"])


def test_old_names_without_prefix_and_with_constants_are_swapped_too(make_run, opened):
    series = Series.open(make_run(steps=(0, 10)))
    expected = [fresh(checkpoint) for checkpoint in series]

    def old(weights):
        mask = {f"h.{i}.attn.bias": torch.ones(1, 1, 64, 64) for i in range(3)}
        return {name.removeprefix("transformer."): w for name, w in weights.items()} | mask

    for checkpoint in series:
        edit(checkpoint, old)
    opened.clear()
    for (_, anatomy), model in zip(LiveModel(series).walk(series), expected, strict=True):
        assert_same_model(anatomy.model, model)
    assert opened == ["checkpoint-0"]


@pytest.mark.parametrize("disk", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory", [torch.float32, torch.bfloat16])
def test_weights_are_cast_as_a_fresh_load_casts_them(make_run, disk, memory):
    series = Series.open(make_run(steps=(0, 10, 20), family="gpt_neox"))
    for checkpoint in series.checkpoints[1:]:
        edit(checkpoint, lambda weights: {name: w.to(disk) for name, w in weights.items()})
    for checkpoint, anatomy in LiveModel(series, dtype=memory).walk(series):
        assert anatomy.unembed.dtype == memory
        assert_same_model(anatomy.model, fresh(checkpoint, memory))


@pytest.mark.parametrize(
    ("family", "times_opened"),
    [("llama", 1), ("gpt2", 3)],  # a tied tensor is twice in a .bin file: no mapping fills an entry once
)
def test_bin_files_are_swapped(tmp_path, family, times_opened, opened):
    for step in (0, 10, 20):
        model = make_model(family, seed=step)
        path = tmp_path / f"checkpoint-{step}"
        path.mkdir()
        model.config.save_pretrained(path)
        torch.save(model.state_dict(), path / "pytorch_model.bin")
    series = Series.open(tmp_path)
    for checkpoint, anatomy in LiveModel(series).walk(series):
        assert_same_model(anatomy.model, make_model(family, seed=checkpoint.step))
    assert len(opened) == times_opened


def test_layouts_of_one_series_may_differ(make_run, tmp_path, opened):
    run = make_run(steps=(0, 10, 20, 30), family="llama")
    series = Series.open(run)
    make_model("llama", seed=10).save_pretrained(run / "sharded", max_shard_size="20KB")
    as_bin(series.at(20).path, run / "bin", shards=2)
    shutil.copytree(series.at(0).path, run / "renamed")
    edit(at(0, run / "renamed"), lambda ws: {n.removeprefix("model."): w for n, w in ws.items()})
    steps = [(0, run / "checkpoint-0"), (10, run / "sharded"), (20, run / "bin"), (0, run / "renamed")]
    steps += [(30, run / "checkpoint-30"), (0, run / "renamed")]
    live = LiveModel(series)
    for checkpoint, anatomy in live.walk([at(step, path) for step, path in steps]):
        assert_same_model(anatomy.model, make_model("llama", seed=checkpoint.step))
    assert opened == ["checkpoint-0", "renamed"]


def test_what_the_values_do_not_bear_out_is_no_mapping(make_run, opened):
    series = Series.open(make_run(steps=(0, 10), family="llama"))
    checkpoint, other = series
    model = fresh(checkpoint)
    assert len(mapping_of(model, checkpoint.path)) == len(model.state_dict())
    assert mapping_of(model, other.path) is None
    edit(checkpoint, lambda weights: weights | {"value_head.weight": torch.ones(3)})
    assert mapping_of(model, checkpoint.path) is None
    edit(other, lambda weights: weights | {"value_head.weight": torch.ones(3)})
    opened.clear()
    for at, anatomy in LiveModel(series).walk(series):  # and such checkpoints are opened one by one
        assert_same_model(anatomy.model, make_model("llama", seed=at.step))
    assert opened == ["checkpoint-0", "checkpoint-10"]


def nan(checkpoint):
    def change(weights):
        weights["transformer.h.1.mlp.c_fc.weight"][3, 5] = torch.nan

    edit(checkpoint, change)


def infinite(checkpoint):
    def change(weights):
        weights["transformer.ln_f.bias"][:2] = torch.tensor([torch.inf, -torch.inf])

    edit(checkpoint, change)


def truncated(checkpoint):
    os.truncate(checkpoint.path / "model.safetensors", 5000)


def gone(checkpoint):
    (checkpoint.path / "model.safetensors").unlink()


def lacking(checkpoint):
    edit(checkpoint, lambda ws: {n: w for n, w in ws.items() if n != "transformer.ln_f.bias"})


def reconfigured(checkpoint):
    file = checkpoint.path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"scale_attn_by_inverse_layer_idx": True}))


def unconfigured(checkpoint):
    (checkpoint.path / "config.json").write_text("{")


def untied(checkpoint):
    edit(checkpoint, lambda weights: weights | {"lm_head.weight": torch.ones(300, 32)})


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (nan, r"checkpoint-20 has non-finite weights: transformer\.h\.1\.mlp\.c_fc\.weight$"),
        (infinite, r"checkpoint-20 has non-finite weights: transformer\.ln_f\.bias$"),
        (truncated, "model.safetensors is truncated"),
        (gone, "has no model.safetensors"),
        (lacking, r"checkpoint-20 lacks transformer\.ln_f\.bias$"),
        (reconfigured, r"checkpoint-20 .* unlike checkpoint-0 \(scale_attn_by_inverse_layer_idx: True, not"),
        (unconfigured, r"checkpoint-20 has no usable config.json"),
        (untied, "checkpoint-20 ties other weights"),
    ],
)
def test_a_broken_checkpoint_is_refused_at_its_turn_and_does_not_end_the_walk(
    make_run, damage, words, prefetch
):
    series = Series.open(make_run(steps=(0, 10, 20, 30)))
    damage(series.at(20))
    walk = LiveModel(series, prefetch=prefetch).walk(series)
    for step in (0, 10):
        checkpoint, anatomy = next(walk)
        assert_same_model(anatomy.model, make_model("gpt2", seed=step))
    with pytest.raises((InputError, BrokenWeightsError), match=words):
        next(walk)
    checkpoint, anatomy = next(walk)
    assert checkpoint.step == 30
    assert_same_model(anatomy.model, make_model("gpt2", seed=30))
    assert list(walk) == []


def test_the_first_checkpoint_may_be_the_broken_one(make_run):
    series = Series.open(make_run(steps=(0, 10, 20)))
    nan(series.at(0))
    walk = LiveModel(series).walk(series)
    with pytest.raises(InputError, match="checkpoint-0 has non-finite"):
        next(walk)
    assert [checkpoint.step for checkpoint, _ in walk] == [10, 20]


def test_weights_whose_sum_overflows_are_no_less_finite(make_run):
    series = Series.open(make_run(steps=(0, 10)))

    def large(weights):
        weights["transformer.wpe.weight"][:] = 3e38

    for checkpoint in series:
        edit(checkpoint, large)
    for _, anatomy in LiveModel(series).walk(series):
        assert (anatomy.base.wpe.weight == torch.tensor(3e38)).all()


def test_settings_that_change_no_computation_may_differ(make_run):
    series = Series.open(make_run(steps=(0, 10)))
    file = series.at(10).path / "config.json"
    idle = {"transformers_version": "5.0.0", "resid_pdrop": 0.5, "use_cache": False, "dtype": "bfloat16"}
    file.write_text(json.dumps(json.loads(file.read_text()) | idle))
    assert_same_model(LiveModel(series).at(series.at(10)).model, make_model("gpt2", seed=10))


def test_the_model_is_in_eval_mode_without_gradients_after_every_swap(make_run):
    series = Series.open(make_run(steps=(0, 10, 20)))
    for _, anatomy in LiveModel(series).walk(series):
        assert not any(module.training for module in anatomy.model.modules())
        assert not any(parameter.requires_grad for parameter in anatomy.model.parameters())
        anatomy.model.train()


def test_hooks_survive_swaps_and_leave_nothing_behind(make_run):
    series = Series.open(make_run(steps=(0, 10, 20)))
    live = LiveModel(series)
    seen = []
    anatomy = live.at(series.at(0))
    hook = anatomy.blocks[1].register_forward_hook(lambda *_: seen.append(1))
    changing = anatomy.blocks[0].register_forward_hook(
        lambda _m, _i, out: (out[0] if type(out) is tuple else out) * 2
    )
    for checkpoint, anatomy in live.walk(series):
        assert not torch.equal(logits(anatomy.model), logits(make_model("gpt2", seed=checkpoint.step)))
    assert len(seen) == 3
    hook.remove()
    changing.remove()
    assert_same_model(anatomy.model, make_model("gpt2", seed=20))


def test_the_model_does_not_change_with_the_file_it_came_from(make_run):
    series = Series.open(make_run(steps=(0, 10)))
    model = LiveModel(series).at(series.at(0)).model
    with open(series.at(0).path / "model.safetensors", "r+b") as file:
        file.write((series.at(10).path / "model.safetensors").read_bytes())
    assert_same_model(model, make_model("gpt2", seed=0))


def held_bytes():
    """Bytes of all tensors that are alive, each storage once."""
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.parametrize(("prefetch", "copies"), [(False, 1), (True, 2)])
def test_no_more_than_one_model_and_the_one_read_ahead_is_held(make_run, prefetch, copies):
    series = Series.open(make_run(steps=(0, 10, 20)))
    size = sum(p.numel() * 4 for p in fresh(series.at(0)).parameters())
    gc.collect()
    before = held_bytes()
    gc.disable()  # what is left to the collector is held
    try:
        for _ in LiveModel(series, prefetch=prefetch).walk(series):
            assert held_bytes() - before < (copies + 0.2) * size
    finally:
        gc.enable()


def test_a_checkpoint_that_was_opened_is_let_go(make_run):
    series = Series.open(make_run(steps=(0, 10, 20)))
    for checkpoint in series:  # nothing verifies these: each goes through from_pretrained
        edit(checkpoint, lambda weights: weights | {"value_head.weight": torch.ones(3)})
    size = sum(p.numel() * 4 for p in fresh(series.at(0)).parameters())
    gc.collect()
    before = held_bytes()
    for _ in LiveModel(series).walk(series):
        assert held_bytes() - before < 1.2 * size


def test_an_adapter_is_merged_into_its_base(make_run, tmp_path):
    series = Series.open(make_run(steps=(0, 10), family="llama"))
    live = LiveModel(series)
    for seed, alpha in ((1, 8), (2, 16)):
        folder = tmp_path / f"adapter-{seed}"
        adapter = make_adapter(folder, base=series.at(0).path, seed=seed, lora_alpha=alpha)
        model = live.at(at(seed, adapter)).model
        expected = make_model("llama")
        parts = load_file(adapter / "adapter_model.safetensors")
        with torch.no_grad():
            change = parts[LORA.format("B")] @ parts[LORA.format("A")] * alpha / 4
            expected.model.layers[0].self_attn.q_proj.weight += change
        torch.testing.assert_close(model.state_dict(), expected.state_dict())
        torch.testing.assert_close(logits(model), logits(expected))
        assert not any("lora" in name for name, _ in model.named_modules())
    assert_same_model(live.at(series.at(10)).model, make_model("llama", seed=10))


def test_an_adapter_that_lacks_a_tensor_or_does_not_fit_is_refused(make_run, tmp_path):
    series = Series.open(make_run(steps=(0,), family="llama"))
    adapter = at(1, make_adapter(tmp_path / "adapter", base=series.at(0).path))
    edit(adapter, lambda ws: {n: w for n, w in ws.items() if "lora_A" in n}, "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"adapter lacks .*lora_B"):
        LiveModel(series).at(adapter)
    make_adapter(adapter.path, base=series.at(0).path, target_modules=["nowhere"])
    with pytest.raises(InputError, match=r"adapter does not fit its base: .*nowhere"):
        LiveModel(series).at(adapter)


def test_an_adapter_without_peft_says_what_to_install(make_run, tmp_path, monkeypatch):
    series = Series.open(make_run(steps=(0,), family="llama"))
    adapter = make_adapter(tmp_path / "adapter", base=series.at(0).path)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"adapter is a PEFT adapter; .*babelscope\[peft\]"):
        LiveModel(series).at(at(0, adapter))


def test_a_random_model_is_the_same_for_one_seed_and_disturbs_no_randomness(make_run):
    series = Series.open(make_run(steps=(0, 10)))
    live = LiveModel(series)
    torch.manual_seed(5)
    one = logits(live.at_random(0).model)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert drawn == torch.rand(1)
    assert torch.equal(logits(live.at_random(0).model), one)
    assert not torch.allclose(logits(live.at_random(1).model), one)
    assert_same_model(live.at(series.at(10)).model, make_model("gpt2", seed=10))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("prefetch", [True, False])
def test_on_a_gpu_the_weights_are_the_same(make_run, dtype, prefetch):
    series = Series.open(make_run(steps=(0, 10, 20, 30), family="gpt_neox"))
    for checkpoint, anatomy in LiveModel(series, dtype=dtype, device="cuda", prefetch=prefetch).walk(series):
        expected = fresh(checkpoint, dtype).state_dict()
        for name, value in anatomy.model.state_dict().items():
            assert value.is_cuda
            assert torch.equal(value.cpu(), expected[name]), name
