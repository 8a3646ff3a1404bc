"""Prepared series on disk: read once, mapped into memory, and larger than memory if need be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from medrecon.errors import OutputError
from medrecon.io.outputs import whole_file, write_json
from medrecon.training.slices import Series


def cached(folder: Path, key: str, make: Callable[[], Series]) -> Series:
    """Return a series from the cache; make and keep it if it is not there.

    Slices are kept in half precision (0.3 HU at most), and come back so the first time, too. A
    series that is damaged in the cache is made again.

    Parameters
    ----------
    folder
        The cache; made if it is not there.
    key
        What the series depends on.
    make
        Makes it.

    Returns
    -------
    Series
        Its slices are float16 and mapped: pages are read when they are looked at.

    Raises
    ------
    OutputError
        If the cache cannot be written.
    """
    stem = hashlib.sha256(key.encode()).hexdigest()[:32]
    values, facts = folder / f"{stem}.npy", folder / f"{stem}.json"
    try:
        return _load(values, facts)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or not whole
    series = make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"data.cache: {folder} cannot be made: {error.strerror}.") from None
    with whole_file(values) as part:
        np.save(part, series.slices.numpy().astype(np.float16), allow_pickle=False)
    write_json(facts, {"patient": series.patient, "pixel_mm": series.pixel_mm})
    return _load(values, facts)


def _load(values: Path, facts: Path) -> Series:
    told = json.loads(facts.read_bytes())
    slices = np.load(values, mmap_mode="c", allow_pickle=False)
    return Series(str(told["patient"]), torch.from_numpy(slices), told["pixel_mm"])


def fingerprint(path: Path) -> str:
    """Say which file this is, or which files a folder holds: names, sizes and times of change."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    facts = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return f"{path.resolve()} {facts}"
