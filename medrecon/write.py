"""A finished reconstruction becomes files: NIfTI, DICOM, preview, and a record of the run."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from torch import Tensor

import medrecon
from medrecon.io.dicom import DerivedSeries, with_uids, write_dicom_series
from medrecon.io.nifti import write_nifti
from medrecon.io.outputs import write_json
from medrecon.io.preview import write_preview
from medrecon.protocol import Protocol
from medrecon.provenance import environment, file_sha256
from medrecon.reconstruct import Result
from medrecon.study import Identity, Study
from medrecon.volume import Volume

_HEADROOM = 16 * 2**20  # bytes for DICOM headers, preview and record


def output_bytes(study: Study, protocol: Protocol) -> int:
    """Most that :func:`write_result` will put on the disk, bytes."""
    shape = (
        protocol.grid.shape
        if protocol.grid is not None
        else (study.grid.shape if study.grid is not None else tuple(study.measurements.shape))
    )
    volumes = len(protocol.baselines) + 1
    return math.prod(shape) * (4 * volumes + 2) + _HEADROOM


def write_result(
    result: Result, study: Study, protocol: Protocol, folder: Path, *, seed: int
) -> list[str]:
    """Write what the protocol asks for into an existing folder.

    ``<method>.nii.gz`` for every volume, ``dicom/`` with the series of the result (the last one),
    ``preview.png`` with the baselines beside it, and ``run.json``: versions, seed, protocol,
    hashes of input and outputs, and the reconstruction's own report. No name, number or date of
    the patient goes into anything but the DICOM headers.

    Returns
    -------
    list of str
        What was written, relative to ``folder``.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    method, volume = list(result.volumes.items())[-1]
    source = file_sha256(study.source) if study.source and study.source.exists() else None
    window = _window(volume, protocol)
    files: list[str] = []
    if protocol.output.nifti:
        for name, each in result.volumes.items():
            write_nifti(each, folder / f"{name}.nii.gz")
            files.append(f"{name}.nii.gz")
    if protocol.output.dicom:
        series = DerivedSeries(
            modality=protocol.modality,
            description=protocol.output.series_description,
            uses_prior=protocol.prior is not None,
            derivation=_derivation(method, protocol, seed),
            protocol_name=protocol.name,
            algorithm=method.upper()[:16],
            window=window,
        )
        identity = _identity(study, source)
        for path in write_dicom_series(volume, folder / "dicom", series=series, identity=identity):
            files.append(f"dicom/{path.name}")
    if protocol.output.preview is not None and window is not None:
        low, high = window
        write_preview(
            folder / "preview.png", result.volumes, low=low, high=high, title=protocol.name
        )
        files.append("preview.png")
    record = {
        "environment": environment(),
        "seed": seed,
        "protocol": protocol.model_dump(mode="json"),
        "protocol_sha256": _protocol_hash(protocol),
        "input": {
            "sha256": source,
            "modality": study.modality,
            "shape": list(study.measurements.shape),
            "simulated": study.identity.simulated,
        },
        **result.report,
        "outputs": {name: file_sha256(folder / name) for name in files},
        "use": "Research only, not for diagnosis.",
    }
    write_json(folder / "run.json", record)
    return [f for f in files if not f.startswith("dicom/")] + (
        ["dicom/", "run.json"] if protocol.output.dicom else ["run.json"]
    )


def _identity(study: Study, source: str | None) -> Identity:
    """All results of one file share a study and a frame of reference."""
    return with_uids(study.identity, source) if source else study.identity


def _window(volume: Volume, protocol: Protocol) -> tuple[float, float] | None:
    preview = protocol.output.preview
    if preview is None:
        return None
    scale = 1.0 if protocol.modality == "CT" else percentile(volume.data, 99.5)
    return preview.low * scale, preview.high * scale


def percentile(values: Tensor, percent: float) -> float:
    """Percentile of all values (torch.quantile refuses more than 16 million).

    >>> import torch
    >>> percentile(torch.arange(101.0), 90.0)
    90.0
    """
    flat = values.flatten()
    rank = round(percent / 100 * (flat.numel() - 1)) + 1
    return float(flat.kthvalue(rank).values)


def _derivation(method: str, protocol: Protocol, seed: int) -> str:
    prior = f"prior {protocol.prior.name}, " if protocol.prior else "no learned prior, "
    steps = f"{protocol.sampler.steps} steps, " if protocol.sampler else ""
    return (
        f"medrecon {medrecon.__version__}, method {method}, {prior}{steps}seed {seed}, "
        f"protocol {protocol.name} sha256 {_protocol_hash(protocol)[:16]}"
    )


def _protocol_hash(protocol: Protocol) -> str:
    return hashlib.sha256(protocol.model_dump_json().encode()).hexdigest()
