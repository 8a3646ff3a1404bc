"""Files of weights to tensors by name; pickles only through a confined process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from medrecon.errors import ResourceError, UnreadableError, UsageError, WeightsError
from medrecon.yaml_loader import load_yaml

_PICKLES = frozenset({".pt", ".pth", ".ckpt", ".bin"})
_READER = Path(__file__).with_name("restricted.py")
_PATIENCE = 3600.0
_WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.bin",
)


class Checkpoint(NamedTuple):
    """Tensors by path in the order of the file, and what came with them.

    Of the paths see :data:`medrecon.importing.layout.State`.
    """

    state: dict[str, Tensor]
    config: dict[str, Any]


def read_checkpoint(path: Path, *, allow_pickle: bool = False) -> Checkpoint:
    """Read weights.

    Parameters
    ----------
    path
        A ``.safetensors`` file, a checkpoint of PyTorch, or a folder as diffusers writes it.
    allow_pickle
        Whether a checkpoint of PyTorch may be read, which is a pickle; see
        :mod:`medrecon.importing.restricted`.

    Raises
    ------
    UnreadableError
        If it is missing, broken or of another format.
    UsageError
        If it is a pickle and they are not allowed.
    WeightsError
        If it holds other things than tensors and plain values.
    ResourceError
        If reading takes more memory or time than a file of its size should.
    """
    if path.is_dir():
        return _read_folder(path, allow_pickle)
    if not path.is_file():
        raise UnreadableError(f"{path} is no file and no folder.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, path)
    if path.suffix not in _PICKLES:
        raise UnreadableError(
            f"{path} has no name that weights have; expected .safetensors, "
            f"{', '.join(sorted(_PICKLES))} or a folder of diffusers."
        )
    if not allow_pickle:
        raise UsageError(
            f"{path.name} is a pickle, a format that can hold programs; add --allow-pickle to "
            "have its tensors, and nothing else, read by a confined process."
        )
    return _read_pickle(path)


def read_config(path: Path) -> dict[str, Any]:
    """Read settings that belong to weights, JSON or YAML.

    Raises
    ------
    UnreadableError
        If it is something else.
    """
    try:
        content = path.read_bytes()
        json_file = path.suffix == ".json"
        found = json.loads(content) if json_file else load_yaml(content, path.name).value
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UnreadableError(f"{path} is not JSON.") from None
    if not isinstance(found, dict):
        raise UnreadableError(f"{path} holds no settings by name.")
    return found


def _read_folder(path: Path, allow_pickle: bool) -> Checkpoint:
    home = path / "unet" if (path / "unet" / "config.json").is_file() else path
    if not (home / "config.json").is_file():
        raise UnreadableError(f"{path} is no folder of diffusers: there is no config.json.")
    weights = next((home / name for name in _WEIGHTS if (home / name).is_file()), None)
    if weights is None:
        raise UnreadableError(f"{path} holds no {_WEIGHTS[0]}; sharded weights are not read.")
    config = read_config(home / "config.json")
    for place in (path / "scheduler", path, path.parent / "scheduler"):
        if (place / "scheduler_config.json").is_file():
            config["scheduler"] = read_config(place / "scheduler_config.json")
            break
    return Checkpoint(read_checkpoint(weights, allow_pickle=allow_pickle).state, config)


def _read_safetensors(path: Path, named: Path) -> Checkpoint:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in _names(path)}
        config = json.loads(metadata.get("config", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise UnreadableError(f"{named} is not safetensors: {error}.") from None
    return Checkpoint(state, config if isinstance(config, dict) else {})


def _names(path: Path) -> list[str]:
    """Names in the order of the file, which matters where weights are known by their place."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return [name for name in header if name != "__metadata__"]


def _read_pickle(path: Path) -> Checkpoint:
    kept = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        written = Path(folder) / "weights.safetensors"
        with written.open("wb") as out:
            try:
                done = subprocess.run(
                    [sys.executable, "-I", str(_READER), str(path.resolve())],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.PIPE,
                    env=environment,
                    cwd=folder,
                    timeout=_PATIENCE,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise ResourceError(f"{path} was not read within an hour.") from None
        if done.returncode:
            raise _failure(path, done.returncode, done.stderr.decode("utf-8", "replace"))
        return _read_safetensors(written, path)


def _failure(path: Path, code: int, said: str) -> Exception:
    """Say in one sentence what the confined process could not do."""
    kind, _, what = (said.strip().splitlines() or [""])[-1].partition(" ")
    if kind == "forbidden":
        return WeightsError(
            f"{path.name} holds a {what}, not only tensors; save the network's state_dict() alone "
            "where you trust the file, and import that."
        )
    if kind == "limit" or code < 0:
        return ResourceError(
            f"reading {path.name} takes more memory or time than a file of its size should, so "
            "it was stopped."
        )
    return UnreadableError(f"{path} is no checkpoint of PyTorch, or a damaged one.")


def check_numbers(state: dict[str, Tensor], name: str) -> None:
    """Refuse weights with NaN or infinite numbers, and files without weights.

    Raises
    ------
    WeightsError
        If there are any.
    """
    if not state:
        raise WeightsError(f"{name} holds no tensors.")
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WeightsError(f"The weights of {name} hold NaN or infinite numbers at {key}.")
