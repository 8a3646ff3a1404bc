"""Weights are read as tensors and plain values; what a pickle wants beyond that never happens."""

import argparse
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medrecon.errors import ResourceError, UnreadableError, UsageError, WeightsError
from medrecon.importing import confine
from medrecon.importing.checkpoint import check_numbers, read_checkpoint, read_config


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def read(path):
    return read_checkpoint(path, allow_pickle=True)


@pytest.mark.parametrize("zipped", [True, False])
def test_nested_tensors_come_back_in_order_with_plain_values(tmp_path, zipped):
    listed = [torch.full((k % 3,), float(k)) for k in range(12)]
    saved = {
        "model": {"w": torch.randn(3, 4).t(), "half": torch.randn(2).half(), "n": torch.tensor(7)},
        "brain": torch.randn(2, 2).bfloat16(),
        "ema": {"decay": 0.99, "shadow_params": listed},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(1000)}}},
        "args": argparse.Namespace(num_heads=4, lr=np.float64(0.1)),
        "step": 12,
    }
    torch.save(saved, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    state, config = read(tmp_path / "a.pt")
    shadow = [key for key in state if key.startswith("ema/")]
    assert shadow == [f"ema/shadow_params/{k}" for k in range(12)]
    assert all(torch.equal(state[key], v) for key, v in zip(shadow, listed, strict=True))
    for name, value in saved["model"].items():
        assert torch.equal(state[f"model/{name}"], value)
        assert state[f"model/{name}"].dtype == value.dtype
    assert torch.equal(state["brain"], saved["brain"])
    assert not [key for key in state if key.startswith("optimizer")]
    assert config["args"] == {"num_heads": 4, "lr": 0.1}
    assert config["step"] == 12


def test_a_pickle_is_not_opened_unless_it_is_asked_for(tmp_path):
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(UsageError, match="--allow-pickle"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("form", ["torch", "plain"])
def test_a_pickle_that_wants_to_run_something_is_refused_and_runs_nothing(tmp_path, form):
    mark, path = tmp_path / "mark", tmp_path / "evil.pt"
    if form == "torch":
        torch.save({"w": torch.ones(1), "e": Evil(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises((WeightsError, UnreadableError)) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert not mark.exists()


def test_whole_modules_are_refused_by_the_name_of_their_class(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"Linear.* state_dict"):
        read(tmp_path / "a.pt")


def test_a_small_file_that_unfolds_to_terabytes_is_stopped(tmp_path):
    torch.save(torch.zeros(1).expand(10**12), tmp_path / "bomb.pt")
    with pytest.raises(ResourceError, match="stopped"):
        read(tmp_path / "bomb.pt")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.txt"])
def test_files_that_are_no_weights_are_unreadable(tmp_path, name):
    (tmp_path / name).write_bytes(b"hello" * 100)
    with pytest.raises(UnreadableError):
        read(tmp_path / name)
    with pytest.raises(UnreadableError):
        read(tmp_path / f"absent-{name}")


@pytest.mark.skipif(sys.platform != "linux", reason="the filter of system calls is Linux's")
def test_a_confined_process_has_no_network_no_programs_and_nothing_to_write(tmp_path):
    program = f"""
import ctypes, runpy
libc = ctypes.CDLL(None, use_errno=True)
confine = runpy.run_path({str(Path(confine.__file__))!r})
confine["_limit"](1000)
filtered = confine["_filter_calls"]()
opened = libc.open({str(tmp_path / "made").encode()!r}, 0o101, 0o600)
done = [libc.socket(2, 1, 0), libc.fork(), opened, libc.unlink({__file__.encode()!r})]
assert libc.open({__file__.encode()!r}, 0) >= 0
try:
    bytearray(2**33)
except MemoryError:
    done.append(-1)
print(filtered, done)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if said.stdout.startswith("False"):
        pytest.skip("this kernel has no filter of system calls")
    assert said.stdout.strip() == "True [-1, -1, -1, -1, -1]", said.stderr


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.socket()",
        "import subprocess; subprocess.run(['true'])",
        "open('made', 'w')",
        "import os; os.system('true')",
        "import os; os.remove('nothing')",
    ],
)
def test_python_itself_refuses_where_the_system_cannot(tmp_path, attempt):
    program = f"""
import runpy, sys
confine = runpy.run_path({str(Path(confine.__file__))!r})
sys.addaudithook(confine["_refuse"])
{attempt}
"""
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert "is refused" in said.stderr
    assert not (tmp_path / "made").exists()


def test_a_folder_of_diffusers_is_its_weights_and_both_configurations(tmp_path):
    unet, scheduler = tmp_path / "unet", tmp_path / "scheduler"
    unet.mkdir(), scheduler.mkdir()
    (unet / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    (scheduler / "scheduler_config.json").write_text(json.dumps({"beta_start": 0.1}))
    with pytest.raises(UnreadableError, match="diffusion_pytorch_model"):
        read(tmp_path)
    save_file({"w": torch.ones(2)}, unet / "diffusion_pytorch_model.safetensors")
    for folder in (tmp_path, unet):
        state, config = read_checkpoint(folder)
        assert list(state) == ["w"]
        assert config == {"_class_name": "UNet2DModel", "scheduler": {"beta_start": 0.1}}
    with pytest.raises(UnreadableError, match=r"config\.json"):
        read(scheduler)


def test_settings_are_json_or_yaml_by_name(tmp_path):
    (tmp_path / "a.json").write_text('{"num_heads": 4}')
    (tmp_path / "a.yaml").write_text("model:\n  num_heads: 4\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "bad.json").write_text("{")
    assert read_config(tmp_path / "a.json") == {"num_heads": 4}
    assert read_config(tmp_path / "a.yaml") == {"model": {"num_heads": 4}}
    for name in ("list.yaml", "bad.json", "absent.json"):
        with pytest.raises(UnreadableError):
            read_config(tmp_path / name)


def test_weights_that_are_no_numbers_are_refused():
    with pytest.raises(WeightsError, match="infinite numbers at w"):
        check_numbers({"w": torch.tensor([1.0, float("nan")])}, "it")
    with pytest.raises(WeightsError, match="no tensors"):
        check_numbers({}, "it")
