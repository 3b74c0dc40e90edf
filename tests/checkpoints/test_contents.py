"""What one pass over the bytes says, against torch and NumPy."""

from __future__ import annotations

import json
import math
import shutil
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from babelscope.checkpoints.contents import ENTRIES, ContentsCache
from babelscope.checkpoints.fingerprints import fingerprint
from tests.conftest import make_model

EVERY_CODE = torch.arange(256, dtype=torch.uint8)  # of an 8-bit float
TENSORS = {
    "float64": torch.linspace(-3, 5, 200, dtype=torch.float64),
    "float32": torch.linspace(-3, 5, 200).reshape(10, 20),
    "float16": torch.linspace(-3, 5, 200).half(),
    "bfloat16": torch.linspace(-3, 5, 200).bfloat16(),
    "e4m3": EVERY_CODE.view(torch.float8_e4m3fn),
    "e5m2": EVERY_CODE.clone().view(torch.float8_e5m2),
    "not finite": torch.tensor([1.0, math.nan, 2.0, math.inf, -math.inf, -2.0]),
    "empty": torch.zeros(0),
    "scalar": torch.tensor(2.0),
}
BUFFERS = {"mask": torch.ones(3, 3, dtype=torch.bool), "positions": torch.arange(10)}


@pytest.fixture
def read(tmp_path):
    """Contents as a new process finds them, which knows none of them yet."""

    def read(directory, **options):
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        return ContentsCache(tmp_path / "state").of(directory, **options)

    return read


@pytest.fixture
def contents(tmp_path, read):
    save_file(TENSORS | BUFFERS, tmp_path / "model.safetensors")
    return read(tmp_path)


@pytest.mark.parametrize("name", TENSORS)
def test_numbers_are_decoded_as_torch_decodes_them(contents, name):
    values = TENSORS[name].double().flatten()
    finite = values[values.isfinite()]
    found = contents.tensors[name]
    assert found.non_finite == len(values) - len(finite)
    assert found.norm == pytest.approx(finite.norm().item())
    if len(values):
        expected = values.where(values.isfinite(), 0).float().numpy()
        np.testing.assert_array_equal(contents.samples[name], expected)


def test_buffers_are_hashed_and_nothing_else(contents):
    assert {name for name in contents.tensors if name not in contents.samples} == {*BUFFERS, "empty"}
    assert all(contents.tensors[name].norm == 0 for name in BUFFERS)


def test_the_fingerprint_is_the_one_of_the_weights_alone(tmp_path, contents, read):
    assert contents.fingerprint == fingerprint(tmp_path)
    make_model("gpt2").save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert read(tmp_path / "sharded").fingerprint == fingerprint(tmp_path / "sharded")


def test_bin_files_and_adapters_are_read_like_safetensors(tmp_path, contents, read):
    plain = tmp_path / "bin"
    plain.mkdir()
    torch.save(TENSORS | BUFFERS, plain / "pytorch_model.bin")
    pickled = read(plain)
    assert pickled.fingerprint == contents.fingerprint == fingerprint(plain)
    assert pickled.tensors == contents.tensors

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({"a.lora_A.weight": torch.ones(2, 3)}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(plain)}))
    found = read(adapter)
    assert set(found.tensors) == {"a.lora_A.weight"}
    assert found.fingerprint == fingerprint(adapter)


def test_what_is_kept_is_what_was_read(tmp_path, contents):
    kept = ContentsCache(tmp_path / "state").of(tmp_path)
    assert kept.tensors == contents.tensors
    assert kept.samples.keys() == contents.samples.keys()
    for name, sample in contents.samples.items():
        np.testing.assert_array_equal(kept.samples[name], sample)


def test_a_large_tensor_is_sampled_at_the_same_places_everywhere(tmp_path, read):
    rng = np.random.default_rng(0)
    one = rng.permutation(700 * 900).reshape(700, 900).astype(np.float32)  # more than one chunk
    moved = one + rng.normal(size=one.shape).astype(np.float32)
    small = rng.normal(size=100).astype(np.float32)
    found = []
    for name, tensor in {"one": one, "moved": moved}.items():
        (tmp_path / name).mkdir()
        save_arrays({"w": tensor, "b": small}, tmp_path / name / "model.safetensors")
        found.append(read(tmp_path / name))
    assert len(found[0].samples["w"]) == ENTRIES
    assert np.isin(found[0].samples["w"], one).all()
    places = [int(np.flatnonzero(one == value)[0]) for value in found[0].samples["w"]]
    np.testing.assert_array_equal(found[1].samples["w"], moved.ravel()[places])
    assert max(places) > one.size / 2  # beyond the first chunk
    assert found[0].tensors["w"].norm == pytest.approx(np.linalg.norm(one.astype(float)))
    assert found[0].distance(found[1]) == pytest.approx(np.linalg.norm(one - moved), rel=0.15)


def test_memory_does_not_grow_with_the_model(tmp_path, read):
    big = np.ones(8_000_000, np.float32)
    save_arrays({"w": big}, tmp_path / "model.safetensors")
    tracemalloc.start()
    read(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < big.nbytes / 4


def test_progress_is_told_in_bytes(tmp_path, contents, read):
    told = []
    read(tmp_path, advance=told.append)
    assert sum(told) == sum(t.numel() * t.element_size() for t in (TENSORS | BUFFERS).values())
