"""What this machine offers: versions, devices, memory, disk."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import torch

import medrecon
from medrecon.provenance import version

LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "numba",
    "monai",
    "sigpy",
    "nibabel",
    "pydicom",
    "highdicom",
    "h5py",
    "ismrmrd",
    "twixtools",
    "pydantic",
    "safetensors",
    "torchmetrics",
    "matplotlib",
)
OPTIONAL = ("astra-toolbox", "triton")
EXTERNAL = {"dcm2niix": "converts DICOM, used by tests", "dciodvfy": "checks DICOM, used by tests"}


def examine(folder: Path) -> dict[str, dict[str, str]]:
    """Report on this machine.

    Parameters
    ----------
    folder
        Whose disk to look at.

    Returns
    -------
    dict
        Section to (what, found) texts, ready to be shown.
    """
    return {
        "medrecon": {"version": medrecon.__version__, "python": platform.python_version()},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processors": str(_processors()),
            "threads": str(torch.get_num_threads()),
            "memory": _memory(),
            "free disk": f"{shutil.disk_usage(folder).free / 2**30:.1f} GiB",
        },
        "devices": _devices(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "optional": {name: version(name) for name in OPTIONAL},
        "programs": {
            name: shutil.which(name) or f"not found ({use})" for name, use in EXTERNAL.items()
        },
    }


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return "unknown"
    return f"{total / 2**30:.1f} GiB"


def _devices() -> dict[str, str]:
    found = {"cpu": torch.backends.cpu.get_cpu_capability()}
    if not torch.cuda.is_available():
        return {**found, "cuda": "none"}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return found
