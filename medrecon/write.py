"""A finished reconstruction becomes files: NIfTI, DICOM, preview, and a record of the run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

import medrecon
from medrecon.errors import InconsistentError
from medrecon.io.dicom import DerivedSeries, with_uids, write_dicom_series
from medrecon.io.nifti import write_complex_nifti, write_nifti
from medrecon.io.outputs import write_json
from medrecon.io.preview import write_preview
from medrecon.protocol import Part, Protocol
from medrecon.provenance import environment, file_sha256
from medrecon.reconstruct import Result
from medrecon.study import Identity, Study
from medrecon.volume import Unit, Volume

_HEADROOM = 16 * 2**20  # bytes for DICOM headers, preview and record
_FIRST_SERIES = 9001
_BYTES = {"magnitude": 4, "phase": 4, "complex": 8}  # of a voxel in NIfTI
_UNITS = {"phase": Unit.RADIAN}


def output_bytes(study: Study, protocol: Protocol) -> int:
    """Most that :func:`write_result` will put on the disk, bytes."""
    shape = (
        protocol.grid.shape
        if protocol.grid is not None
        else (study.grid.shape if study.grid is not None else tuple(study.measurements.shape))
    )
    parts = protocol.output.parts
    volumes = (len(protocol.baselines) + 1) * sum(_BYTES[part] for part in parts)
    series = 2 * sum(part != "complex" for part in parts)
    return math.prod(shape) * (volumes + series) + _HEADROOM


def write_result(
    result: Result, study: Study, protocol: Protocol, folder: Path, *, seed: int, number: int = 0
) -> list[str]:
    """Write what the protocol asks for into an existing folder.

    ``<method>.nii.gz`` for every volume (``<method>_phase.nii.gz`` in rad and
    ``<method>_complex.nii.gz``, where ``output.parts`` asks for them and the image is complex),
    ``dicom/`` with the series of the result (the last one; ``dicom_phase/`` with its phase),
    ``preview.png`` with the baselines beside it, and ``run.json``: versions, seed, protocol,
    hashes of input and outputs, and the reconstruction's own report. No name, number or date of
    the patient goes into anything but the DICOM headers.

    Parameters
    ----------
    result, study, protocol, seed
        What was made, of what, and how.
    folder
        Where.
    number
        Which image of its file the study is, from 0: tells the DICOM series apart.

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
            files += _write_nifti(each, name, protocol.output.parts, folder)
    if protocol.output.dicom:
        series = DerivedSeries(
            modality=protocol.modality,
            description=_description(study, protocol),
            uses_prior=protocol.prior is not None,
            derivation=_derivation(method, protocol, seed),
            number=_FIRST_SERIES + 2 * number,
            protocol_name=protocol.name,
            algorithm=method.upper()[:16],
            window=window,
        )
        identity = _identity(study, source)
        files += _write_dicom(volume, protocol.output.parts, series, identity, folder)
    if protocol.output.preview is not None and window is not None:
        low, high = window
        title = f"{protocol.name} {study.label}".strip()
        write_preview(folder / "preview.png", result.volumes, low=low, high=high, title=title)
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
            "image": study.label,
        },
        **result.report,
        "parts": {name: _units(each, protocol) for name, each in result.volumes.items()},
        "outputs": {name: file_sha256(folder / name) for name in files},
        "use": "Research only, not for diagnosis.",
    }
    write_json(folder / "run.json", record)
    shown = [f"{name.partition('/')[0]}/" if "/" in name else name for name in files]
    return [*dict.fromkeys(shown), "run.json"]


def _parts(volume: Volume, wanted: Sequence[Part]) -> list[Part]:
    """Those of the wanted parts that an image has."""
    return [part for part in wanted if part == "magnitude" or volume.phase is not None]


def _units(volume: Volume, protocol: Protocol) -> dict[str, str]:
    """Name the unit of every part that is written of an image."""
    parts = _parts(volume, protocol.output.parts)
    return {part: _UNITS.get(part, volume.unit).value for part in parts}


def _phase(volume: Volume) -> Volume:
    if volume.phase is None:
        raise InconsistentError("A real image has no phase to write.")
    return Volume(volume.phase, volume.grid, Unit.RADIAN)


def _write_nifti(volume: Volume, method: str, parts: Sequence[Part], folder: Path) -> list[str]:
    files = []
    for part in _parts(volume, parts):
        name = f"{method}.nii.gz" if part == "magnitude" else f"{method}_{part}.nii.gz"
        if part == "complex":
            write_complex_nifti(volume, folder / name)
        else:
            write_nifti(volume if part == "magnitude" else _phase(volume), folder / name)
        files.append(name)
    return files


def _write_dicom(
    volume: Volume,
    parts: Sequence[Part],
    series: DerivedSeries,
    identity: Identity,
    folder: Path,
) -> list[str]:
    """Write magnitude and phase as series of their own; DICOM has no complex MR image."""
    files = []
    for part in _parts(volume, parts):
        if part == "complex":
            continue
        home, shown, told = "dicom", volume, series
        if part == "phase":
            home, shown = "dicom_phase", _phase(volume)
            told = replace(
                series,
                description=f"phase {series.description}",
                number=series.number + 1,
                window=None,
            )
        paths = write_dicom_series(shown, folder / home, series=told, identity=identity)
        files += [f"{home}/{path.name}" for path in paths]
    return files


def _description(study: Study, protocol: Protocol) -> str:
    """Name of the series; which image of the file comes first, as the end may be cut off."""
    return f"{study.label} {protocol.output.series_description}".strip()


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
