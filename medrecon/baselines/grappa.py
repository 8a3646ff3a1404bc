"""GRAPPA: missing lines of k-space from their measured neighbours in all coils."""

from __future__ import annotations

from types import EllipsisType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.baselines.grappa_kernels import Kernel, kernels
from medrecon.calibration.region import calibration_region
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian


def grappa(
    kspace: Tensor,
    geometry: Cartesian,
    calibration: Tensor | None = None,
    *,
    neighbours: int = 0,
    readout: int = 5,
    regularization: float = 0.01,
) -> Tensor:
    r"""Fill the lines that a regular pattern left out; measured samples stay as they are.

    A missing sample of a coil is a weighted sum of measured ones of all coils around it. The
    weights are the same everywhere, so they are learnt, by least squares, where k-space is fully
    sampled. One set of weights is learnt for every arrangement of measured neighbours that the
    pattern has: uniform lines with calibration lines between them, two accelerated axes, CAIPI
    shifts. Lines farther from any measured one than the pattern's step (partial Fourier, an
    elliptical shutter) stay zero.

    Parameters
    ----------
    kspace
        Complex, zero where nothing was measured, ``(z, coils, y, x)`` or ``(coils, z, y, x)``.
    geometry
        Sampling: whole lines along x.
    calibration
        Fully sampled k-space of the same coils to learn from, the same layout, smaller along the
        encoded axes; ``None``: the fully sampled middle of ``kspace``.
    neighbours
        Measured lines that a missing one is made of; 0: 4, or 6 where two axes are encoded
        besides the readout.
    readout
        Samples along x taken from each line; odd.
    regularization
        Tikhonov's factor, relative to the mean eigenvalue of the normal matrix: 0.01 suits
        measured data, 1e-6 data without noise.

    Returns
    -------
    Tensor
        Filled k-space, shape and precision of the input. Its root sum of squares or adaptive
        combination is the image.

    Raises
    ------
    InconsistentError
        If the pattern does not consist of whole lines along x, is too irregular, or leaves too
        few calibration lines.

    References
    ----------
    Griswold et al. 2002, doi:10.1002/mrm.10171; Breuer et al. 2006, doi:10.1002/mrm.20787 (CAIPI).
    """
    mask = geometry.mask
    samples = geometry.samples.shape
    fits = all(m in (1, n) for m, n in zip(samples[::-1], kspace.shape[::-1], strict=False))
    if kspace.ndim != 4 or not fits:
        raise InconsistentError(
            f"k-space of shape {tuple(kspace.shape)} does not fit a mask of shape {mask.shape}."
        )
    if geometry.is_per_slice:
        filled = [
            grappa(
                kspace[i : i + 1],
                Cartesian(mask=plane),
                None if calibration is None else calibration[i : i + 1],
                neighbours=neighbours,
                readout=readout,
                regularization=regularization,
            )
            for i, plane in enumerate(mask)
        ]
        return torch.cat(filled)
    if calibration is None:
        index: list[EllipsisType | slice] = [..., *calibration_region(mask)]
        calibration = kspace[tuple(index)]
    # (slices, coils, lines, lines, x), the first axis of lines of size 1 slice by slice
    lift = 0 if geometry.is_3d else 2
    lines, columns = _lines(mask)
    found = kernels(
        lines if geometry.is_3d else lines[None],
        neighbours or (6 if geometry.is_3d else 4),
        readout,
    )
    out = kspace.clone()
    for source, learn, target in zip(
        kspace.unsqueeze(lift) if lift else kspace[None],
        calibration.unsqueeze(lift) if lift else calibration[None],
        out.unsqueeze(lift) if lift else out[None],
        strict=True,
    ):
        for kernel in found:
            weights = _learn(learn, kernel, regularization)
            _fill(target[..., columns], source[..., columns], kernel, weights)
    return out


def _lines(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], slice]:
    """Which lines along x were measured, and which part of them."""
    lines = np.asarray(mask.any(-1))
    columns = np.asarray(mask.reshape(-1, mask.shape[-1]).any(0))
    if not np.array_equal(mask, lines[..., None] & columns):
        raise InconsistentError(
            "GRAPPA needs whole lines along x, and this pattern leaves out single samples of a "
            "line; use cg_sense or wavelet."
        )
    where = np.flatnonzero(columns)
    return lines, slice(int(where[0]), int(where[-1]) + 1)


def _learn(acs: Tensor, kernel: Kernel, regularization: float) -> Tensor:
    """Weights of one kernel in double precision.

    ``(coils * neighbours * readout, readout, coils)``: for a missing sample at every place along
    the window, as the middle cannot be had at the ends of a line.
    """
    coils, n0, n1, nx = acs.shape
    (a0, b0), (a1, b1) = kernel.extent
    rows0, rows1 = range(-a0, n0 - b0), range(-a1, n1 - b1)
    if not rows0 or not rows1 or nx < kernel.readout:
        raise InconsistentError(
            f"GRAPPA needs {b1 - a1 + 1} calibration lines next to each other along y"
            f"{f' and {b0 - a0 + 1} along z' if b0 > a0 else ''} for this pattern, found {n1}"
            f"{f' and {n0}' if b0 > a0 else ''}; measure more or accelerate less."
        )
    acs = acs.to(torch.complex128)
    missing = acs[:, rows0.start : rows0.stop, rows1.start : rows1.stop]
    A = _windows(
        torch.stack(
            [
                acs[:, rows0.start + d0 : rows0.stop + d0, rows1.start + d1 : rows1.stop + d1]
                for d0, d1 in kernel.offsets
            ],
            dim=3,
        ).flatten(1, 2),
        kernel.readout,
    ).flatten(0, 1)
    b = missing.unfold(-1, kernel.readout, 1).permute(1, 2, 3, 4, 0).flatten(0, 2).flatten(1)
    normal = A.mH @ A
    ridge = regularization * normal.diagonal().real.mean()
    normal.diagonal().add_(ridge.clamp_min(torch.finfo(ridge.dtype).tiny))
    weights: Tensor = torch.linalg.solve(normal, A.mH @ b)
    return weights.reshape(-1, kernel.readout, coils)


def _fill(target: Tensor, source: Tensor, kernel: Kernel, weights: Tensor) -> None:
    """Write the lines ``kernel.targets`` of ``target (coils, lines, lines, x)``."""
    half = kernel.readout // 2
    t0, t1 = torch.from_numpy(kernel.targets).to(source.device).unbind(1)
    d0, d1 = torch.tensor(kernel.offsets, device=source.device).unbind(1)
    A = _windows(source[:, t0[:, None] + d0, t1[:, None] + d1], kernel.readout)
    w = weights.to(A.dtype)
    filled = torch.cat(
        [
            torch.einsum("tf,frc->trc", A[:, 0], w[:, :half]),
            A @ w[:, half],
            torch.einsum("tf,frc->trc", A[:, -1], w[:, half + 1 :]),
        ],
        dim=1,
    )
    target[:, t0, t1] = filled.permute(2, 0, 1)


def _windows(lines: Tensor, readout: int) -> Tensor:
    """Cut ``(coils, targets, neighbours, x)`` into windows: ``(targets, windows, samples)``."""
    return lines.unfold(-1, readout, 1).permute(1, 3, 0, 2, 4).flatten(2)
