"""Weight files: every layout is read, nothing but tensors is, and fingerprints are of what was read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from babelscope.checkpoints.fingerprints import Fingerprints, fingerprint, tensor_fingerprints
from babelscope.checkpoints.reading import read_tensor
from babelscope.checkpoints.weights import BrokenWeightsError, model_folder, tensors, weight_files
from babelscope.core.files import digest
from tests.conftest import make_model

LORA = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"


@pytest.fixture
def saved(tmp_path):
    """A llama in `one/model.safetensors`."""
    make_model("llama").save_pretrained(tmp_path / "one")
    return tmp_path / "one"


def as_bin(folder, target, *, shards=1, **options):
    """The weights of `folder` as `pytorch_model.bin`, in as many files."""
    target.mkdir()
    shutil.copy(folder / "config.json", target)
    weights = load_file(folder / "model.safetensors")
    if shards == 1:
        torch.save(weights, target / "pytorch_model.bin", **options)
        return target
    files = {name: f"pytorch_model-{i % shards}.bin" for i, name in enumerate(weights)}
    for file in set(files.values()):
        torch.save({n: w for n, w in weights.items() if files[n] == file}, target / file, **options)
    (target / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
    return target


def make_adapter(folder, *, base, seed=0, **settings):
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    parts = {LORA.format("A"): torch.randn(4, 32), LORA.format("B"): torch.randn(32, 4)}
    save_file(parts, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    told = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8}
    told |= {"target_modules": ["q_proj"], "layers_to_transform": [0], "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(told | settings))
    return folder


def test_a_fingerprint_is_of_the_weights_and_not_of_their_files(saved, tmp_path):
    model = make_model("llama")
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert (tmp_path / "sharded" / "model.safetensors.index.json").exists()
    assert fingerprint(saved) == fingerprint(tmp_path / "sharded")
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-4
    model.save_pretrained(tmp_path / "other")
    assert fingerprint(tmp_path / "other") != fingerprint(saved)


def test_a_fingerprint_is_what_it_is_said_to_be(saved):
    parts = [
        [
            name,
            "F32",
            list(weight.shape),
            hashlib.blake2b(weight.numpy().tobytes(), digest_size=16).hexdigest(),
        ]
        for name, weight in load_file(saved / "model.safetensors").items()
    ]
    assert fingerprint(saved) == digest(sorted(parts))
    assert tensor_fingerprints(saved) == {name: content for name, _, _, content in parts}


def test_a_changed_tensor_changes_its_own_hash_only(saved, tmp_path):
    weights = load_file(saved / "model.safetensors")
    before = tensor_fingerprints(saved)
    weights["model.norm.weight"][3] += 1
    save_file(weights, saved / "model.safetensors")
    after = tensor_fingerprints(saved)
    assert [name for name in before if before[name] != after[name]] == ["model.norm.weight"]


def test_fingerprints_are_computed_again_only_for_changed_files(saved, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    assert not Fingerprints(cache).knows(saved)
    first = Fingerprints(cache).of(saved)
    assert first == fingerprint(saved)
    assert Fingerprints(cache).knows(saved)
    monkeypatch.setattr("babelscope.checkpoints.fingerprints._hash", lambda _: "anew")
    assert Fingerprints(cache).of(saved) == first
    make_model("llama", seed=1).save_pretrained(saved)
    assert Fingerprints(cache).of(saved) != first


def test_the_fingerprint_of_safetensors_needs_no_torch(saved):
    script = (
        "import sys; from pathlib import Path; from babelscope.checkpoints.fingerprints import fingerprint;"
        f"fingerprint(Path({str(saved)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("shards", [1, 3])
def test_bin_files_hold_the_same_tensors_as_safetensors(saved, tmp_path, shards):
    other = as_bin(saved, tmp_path / "bin", shards=shards)
    assert len(weight_files(other)) == shards
    assert {(t.name, t.dtype, t.shape) for t in tensors(other)} == {
        (t.name, t.dtype, t.shape) for t in tensors(saved)
    }
    assert tensor_fingerprints(other) == tensor_fingerprints(saved)
    assert fingerprint(other) == fingerprint(saved)
    expected = load_file(saved / "model.safetensors")
    assert all(torch.equal(read_tensor(tensor), expected.pop(tensor.name)) for tensor in tensors(other))
    assert not expected


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.float8_e4m3fn]
)
def test_a_dtype_has_one_name_in_both_formats(tmp_path, dtype):
    weights = {"w": torch.ones(2, 3).to(dtype)}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    save_file(weights, tmp_path / "a" / "model.safetensors")
    torch.save(weights, tmp_path / "b" / "pytorch_model.bin")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    (tensor,) = tensors(tmp_path / "a")
    assert read_tensor(tensor).dtype == dtype
    assert torch.equal(read_tensor(tensor).float(), weights["w"].float())


def test_tensors_that_are_views_are_read_as_they_look(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    torch.save({"turned": base.T, "row": base[1]}, tmp_path / "pytorch_model.bin")
    save_file({"turned": base.T.contiguous(), "row": base[1].clone()}, tmp_path / "copies.safetensors")
    was = tensor_fingerprints(tmp_path)
    (tmp_path / "copies.safetensors").rename(tmp_path / "model.safetensors")
    assert tensor_fingerprints(tmp_path) == was


def test_safetensors_are_preferred(saved):
    before = fingerprint(saved)
    (saved / "pytorch_model.bin").write_bytes(b"never read")
    assert fingerprint(saved) == before
    assert weight_files(saved) == [saved / "model.safetensors"]


class Hostile:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path, zipped):
    folder = tmp_path / "hostile"
    folder.mkdir()
    held = {"w": torch.zeros(2), "x": Hostile(tmp_path / "ran")}
    torch.save(held, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BrokenWeightsError, match=r"pytorch_model.bin .* more than tensors, .* safetensors"):
        list(tensors(folder))
    assert not (tmp_path / "ran").exists()


def test_the_format_before_torch_1_6_is_read(saved, tmp_path):
    old = as_bin(saved, tmp_path / "old", _use_new_zipfile_serialization=False)
    assert fingerprint(old) == fingerprint(saved)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-1000]), "pytorch_model.bin is truncated"),
        (lambda file: file.write_bytes(b""), "pytorch_model.bin is damaged"),
        (lambda file: file.write_bytes(b"no pickle at all"), "pytorch_model.bin is damaged"),
        (lambda file: torch.save({"model": {"w": torch.ones(1)}}, file), "holds 'model', which is no tensor"),
        (lambda file: torch.save([torch.ones(1)], file), "holds a list where names and tensors belong"),
    ],
)
def test_a_bin_file_that_is_no_weights_is_said_to_be_so(saved, tmp_path, write, words):
    folder = as_bin(saved, tmp_path / "bin")
    write(folder / "pytorch_model.bin")
    with pytest.raises(BrokenWeightsError, match=words):
        list(tensors(folder))


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"weight_map": {"w": "gone.safetensors"}}, "names gone.safetensors, which is missing"),
        ({"weight_map": ["w"]}, "is not a weight index"),
        ({"weight_map": {"w": 3}}, "is not a weight index"),
        ({}, "is not a weight index"),
        ([], "is not a weight index"),
    ],
)
def test_an_index_that_names_no_files_is_said_to(tmp_path, index, words):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BrokenWeightsError, match=words):
        list(tensors(tmp_path))


@pytest.mark.parametrize(
    "header", [b"[]", b'{"w": 1}', b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": ["a", "b"]}}']
)
def test_a_header_that_makes_no_sense_is_said_to(tmp_path, header):
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(BrokenWeightsError, match="corrupt header"):
        list(tensors(tmp_path))


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    for name in ("a", "b"):
        save_file({"w": torch.ones(1), name: torch.ones(1)}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {"a": "a.safetensors", "w": "a.safetensors", "b": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BrokenWeightsError, match=r"w is in a.safetensors and in b.safetensors"):
        list(tensors(tmp_path))


def test_a_file_that_cannot_be_opened_is_said_to(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(BrokenWeightsError, match=r"model\.safetensors cannot be read: Is a directory"):
        list(tensors(tmp_path))


def test_a_file_that_shrinks_while_it_is_read_is_said_to(saved, monkeypatch):
    found = list(tensors(saved))
    os.truncate(saved / "model.safetensors", found[0].start + 8)
    with pytest.raises(BrokenWeightsError, match=f"is being written: {found[0].name} came out short"):
        read_tensor(found[0])
    monkeypatch.setattr("babelscope.checkpoints.fingerprints.tensors", lambda _: found)
    with pytest.raises(BrokenWeightsError, match=f"is being written: {found[0].name} came out short"):
        tensor_fingerprints(saved)


def test_an_adapter_finds_its_base_beside_it_as_a_path_and_in_the_cache(saved, tmp_path, monkeypatch):
    assert model_folder(saved) == saved
    assert model_folder(make_adapter(tmp_path / "a", base="../one")).samefile(saved)
    assert model_folder(make_adapter(tmp_path / "b", base=saved)).samefile(saved)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    cached = tmp_path / "hub" / "models--someone--base"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("a" * 40)
    shutil.copytree(saved, cached / "snapshots" / ("a" * 40))
    adapter = make_adapter(tmp_path / "c", base="someone/base")
    assert model_folder(adapter).samefile(cached / "snapshots" / ("a" * 40))
    assert [file.name for file in weight_files(adapter)] == ["model.safetensors", "adapter_model.safetensors"]
    assert {tensor.name for tensor in tensors(adapter)} == {LORA.format("A"), LORA.format("B")}


@pytest.mark.parametrize("base", ["nobody/nothing", "../gone", "/gone/too"])
def test_an_adapter_without_its_base_says_what_to_do(tmp_path, monkeypatch, base):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(BrokenWeightsError, match=f"its base '{base}' is neither .* set base_model_name"):
        list(tensors(make_adapter(tmp_path / "adapter", base=base)))


def test_an_adapter_on_a_broken_base_or_without_its_own_file_is_refused(saved, tmp_path):
    adapter = make_adapter(tmp_path / "adapter", base=saved)
    (adapter / "adapter_model.safetensors").rename(tmp_path / "away")
    with pytest.raises(BrokenWeightsError, match=r"has adapter_config\.json but no adapter_model"):
        list(tensors(adapter))
    (tmp_path / "away").rename(adapter / "adapter_model.safetensors")
    os.truncate(saved / "model.safetensors", 1000)
    with pytest.raises(BrokenWeightsError, match=r"model\.safetensors is truncated"):
        list(tensors(adapter))
    (adapter / "adapter_config.json").write_text("[1]")
    with pytest.raises(BrokenWeightsError, match=r"adapter_config\.json is not an adapter's"):
        list(tensors(adapter))


def test_an_adapters_fingerprint_is_of_base_settings_and_own_tensors(saved, tmp_path):
    adapter = make_adapter(tmp_path / "adapter", base=saved)
    first = fingerprint(adapter)
    assert Fingerprints(tmp_path / "cache").of(adapter) == first != fingerprint(saved)
    assert set(tensor_fingerprints(adapter)) == {LORA.format("A"), LORA.format("B")}

    saved.rename(tmp_path / "moved")
    assert fingerprint(make_adapter(adapter, base=tmp_path / "moved")) == first

    changes = {fingerprint(make_adapter(adapter, base="../moved", seed=1))}
    changes.add(fingerprint(make_adapter(adapter, base="../moved", lora_alpha=16)))
    assert Fingerprints(tmp_path / "cache").of(adapter) in changes
    make_model("llama", seed=1).save_pretrained(tmp_path / "moved")
    changes.add(fingerprint(make_adapter(adapter, base="../moved")))
    assert len(changes | {first}) == 4
