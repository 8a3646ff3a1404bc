"""Where to compute: the words of ``--device`` and what they stand for here."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from medrecon.errors import ResourceError, UsageError
from medrecon.operators.memory import free_memory

_CGROUP = Path("/sys/fs/cgroup")
_HALF_PRECISION_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def resolve_device(name: str) -> str:
    """Return the torch device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    ``auto`` takes the first GPU where there is one; the other words never fall back silently.

    Raises
    ------
    UsageError
        If the word is none of these.
    ResourceError
        If the GPU asked for is not there.

    Examples
    --------
    >>> resolve_device("cpu")
    'cpu'
    """
    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    if not re.fullmatch(r"cuda(:[0-9]{1,3})?", name):
        raise UsageError(f"--device {name!r}: use auto, cpu, cuda or cuda:N.")
    index = int(name.partition(":")[2] or 0)
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= found:
        raise ResourceError(
            f"--device {name}: this machine has {found or 'no'} usable GPU{'s' * (found != 1)}; "
            "use --device auto to take what is there."
        )
    return f"cuda:{index}"


def available_memory(device: str) -> float:
    """Bytes that may be taken on a device; infinite where nobody tells.

    On the CPU a container's limit counts where it is the smaller one.
    """
    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free)
    return min(free_memory(), _container_memory(_CGROUP))


def _container_memory(folder: Path) -> float:
    """Bytes left under the limit of a control group (version 2); infinite without one.

    Pages of files that the system keeps for reading again are given back when asked for.
    """
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        kept = dict(
            line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines()
        )
    except (OSError, ValueError):
        return float("inf")
    if limit == "max":
        return float("inf")
    return max(0.0, float(limit) - used + int(kept.get("inactive_file", 0)))


def has_fast_bfloat16(device: str) -> bool:
    """Whether a device has instructions for bfloat16: otherwise it is slower than float32."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((x for x in lines if x.lower().startswith(("flags", "features"))), "")
    return bool(_HALF_PRECISION_FLAGS & set(flags.split()))
