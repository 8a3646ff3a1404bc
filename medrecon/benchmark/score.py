"""Figures of one reconstruction."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from medrecon.compare import PLANES, compare_tensors, complex_nrmse
from medrecon.errors import InconsistentError
from medrecon.problem import Problem
from medrecon.study import Study
from medrecon.volume import Volume


def psnr(image: Tensor, reference: Tensor, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB of real tensors.

    Examples
    --------
    >>> round(psnr(torch.full((4,), 0.9), torch.ones(4), 1.0), 3)
    20.0
    """
    error = float((image.double() - reference.double()).square().mean())
    return 10 * math.log10(data_range**2 / error) if error > 0 else math.inf


def quality(problem: Problem, image: Tensor) -> float:
    """PSNR of an image in the prior's unit against the truth, dB."""
    volume = problem.to_volume(image)
    return psnr(volume.data, truth_of(problem.study), problem.data_range)


def score(volume: Volume, study: Study, data_range: float) -> dict[str, Any]:
    """PSNR, SSIM and NRMSE of a volume against the study's truth, by plane too.

    Parameters
    ----------
    volume
        What is judged.
    study
        Has the truth.
    data_range
        CT: the prior's window of 2600 HU, MR: the truth's 99.5th percentile.

    Returns
    -------
    dict
        ``planes`` has for every plane the mean PSNR and SSIM of its slices; an infinite PSNR is
        ``None``; ``complex_nrmse`` where the phase is known.

    Raises
    ------
    InconsistentError
        If the study knows no truth.
    """
    reference = truth_of(study)
    found = compare_tensors(volume.data, reference, data_range)
    planes = {
        name: {"psnr": _number(_mean_psnr(volume.data, reference, data_range, axis), 3)}
        for name, axis in PLANES.items()
    }
    for name, ssim in found.ssim_per_plane.items():
        planes[name]["ssim"] = round(ssim, 4)
    row: dict[str, Any] = {
        "psnr": _number(found.psnr, 3),
        "ssim": None if found.ssim is None else round(found.ssim, 4),
        "nrmse": round(found.nrmse, 5),
        "data_range": round(data_range, 4),
        "planes": planes,
    }
    if volume.phase is not None and study.reference_phase is not None:
        truth = torch.polar(reference, study.reference_phase)
        row["complex_nrmse"] = round(complex_nrmse(volume.complex, truth), 5)
    return row


def misfit(problem: Problem, image: Tensor) -> float | None:
    """Mean squared residual over the noise, 1 where the image explains the data, not their noise.

    ``None`` for images that the operator does not take (magnitudes of MR).
    """
    domain = problem.data.operator.domain
    if image.is_complex() != domain.complex or tuple(image.shape) != domain.shape:
        return None
    return round(problem.data.misfit(image), 4)


def truth_of(study: Study) -> Tensor:
    """Return the truth, ``(z, y, x)``.

    Raises
    ------
    InconsistentError
        If the study knows none.
    """
    if study.reference is None:
        raise InconsistentError("The scan knows no truth to compare with; simulate it.")
    return study.reference


def _mean_psnr(image: Tensor, reference: Tensor, data_range: float, axis: int) -> float:
    """Mean over the slices of a plane, those that are reproduced exactly left out."""
    error = (image.double() - reference.double()).movedim(axis, 0).flatten(1).square().mean(1)
    error = error[error > 0]
    if len(error) == 0:
        return math.inf
    return float((10 * torch.log10(data_range**2 / error)).mean())


def _number(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
