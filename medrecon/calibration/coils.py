"""Coil sensitivity maps, and images combined with and without them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from medrecon.calibration.centre import cartesian_centre
from medrecon.calibration.crop import automatic_crop
from medrecon.calibration.espirit import espirit
from medrecon.calibration.jsense import jsense
from medrecon.calibration.noise import noise_level
from medrecon.calibration.planes import (
    Planes,
    low_resolution,
    measured,
    slice_planes,
    volume_planes,
)
from medrecon.calibration.walsh import (
    adaptive_combine,
    principal_direction,
    refer_phase,
    walsh,
)
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, MRGeometry, NonCartesian

__all__ = ["adaptive_combine", "coil_combine", "estimate_maps", "rss"]

# Mean eigenvalue in the object, of 8 coils with 8x8, 9x9, 10x10, 12x12, 14x14 lines, and error of
# their maps: 0.42, 0.68, 0.85, 0.989, 0.9997; 10 %, 9 %, 9 %, 4 %, 1 %.
_POOR, _GOOD = 0.8, 0.95

Method = Literal["espirit", "walsh", "jsense"]
_PlaneMethod = Callable[[Tensor, tuple[int, int]], tuple[Tensor, Tensor]]
"""``(plane, shape)`` to maps ``(sets, coils, *shape)`` and eigenvalues ``(sets, *shape)``."""


def estimate_maps(
    kspace: Tensor,
    geometry: MRGeometry,
    grid_shape: tuple[int, ...] | None = None,
    *,
    method: Method = "espirit",
    sets: int = 1,
    calibration_lines: int = 24,
    kernel: int = 6,
    noise_std: float | None = None,
    crop: float | None = None,
    calibration: Tensor | None = None,
) -> Tensor:
    """Estimate coil maps from the fully sampled middle of k-space.

    Slice-wise data are calibrated slice by slice. 3D data are first transformed along their best
    sampled axis and then calibrated plane by plane; besides the k-space and the maps, memory holds
    a few copies of the calibration lines, 12 bytes per voxel and set for the crop, and at most
    about 100 MB of what ESPIRiT solves at a time. Data along a
    trajectory are brought to the Cartesian grid in the middle of k-space first.

    The maps have unit root-sum-of-squares wherever they are kept, and the phase in which one fixed
    combination of the coils is real: the same for all slices, so that the image's phase stays
    smooth along z.

    Parameters
    ----------
    kspace
        Measurements, complex, laid out as the geometry says.
    geometry
        How they were sampled.
    grid_shape
        Voxels of the image, ``(z, y, x)``; of Cartesian data it is that of k-space and may be
        left out.
    method
        ``espirit``: see :mod:`medrecon.calibration.espirit`; ``walsh``: local principal direction
        of the images at low resolution; ``jsense``: with the image at the same time.
    sets
        ESPIRiT only: number of map sets, 2 where the object is larger than the field of view.
    calibration_lines
        Use at most so many lines around the centre along every axis.
    kernel
        Width of ESPIRiT's neighbourhoods in samples.
    noise_std
        Root of ``E|n|^2`` per sample, 1 for prewhitened data; ``None``: estimated from the
        periphery of k-space. It separates signal from noise in the calibration data.
    crop
        Set maps to zero where ESPIRiT's eigenvalue (for ``walsh`` the share of the local energy
        that one direction explains) is below; 0 keeps them everywhere. ``None``: chosen for the
        whole volume, and for each set, by :func:`~medrecon.calibration.crop.automatic_crop`.
    calibration
        Cartesian k-space of a separate calibration scan, ``(z, coils, y, x)`` or
        ``(coils, z, y, x)``, zero where not measured; used instead of ``kspace``.

    Returns
    -------
    Tensor
        Complex, ``(z, coils, y, x)`` slice-wise, ``(coils, z, y, x)`` where z is encoded; with a
        leading axis of sets where ``sets > 1``.

    Raises
    ------
    InconsistentError
        If shapes do not fit, the fully sampled middle is too small, holds no signal, or does not
        determine maps; if a method has no several sets.

    References
    ----------
    Uecker et al., ESPIRiT, Magn Reson Med 71 (2014), doi:10.1002/mrm.24751.
    """
    if sets > 1 and method != "espirit":
        raise InconsistentError(f"Only espirit finds several sets of coil maps, not {method}.")
    std = noise_level(kspace, geometry) if noise_std is None else noise_std
    source, where, shape = _cartesian(kspace, geometry, grid_shape, calibration)
    axis = geometry.coil_axis
    if axis == 1:
        planes = slice_planes(source, where, lines=calibration_lines, kernel=kernel)
    else:
        planes = volume_planes(source, where.mask, lines=calibration_lines, kernel=kernel)
    coils = kspace.shape[axis]
    out = source.new_empty(sets, *shape[:axis], coils, *shape[axis:])
    by_plane = out if axis == 1 else out.movedim(planes.axis + 2, 1)  # a view, coils after planes
    find = _method(method, kernel=kernel, noise_std=std * planes.noise, sets=sets)
    held = _fill(by_plane, planes, find, std, crop)
    if method == "espirit":
        _check_rank(held, planes, kernel)
    return out if sets > 1 else out[0]


def coil_combine(images: Tensor, maps: Tensor, axis: int) -> Tensor:
    """Combine coil images with known maps: ``sum_c conj(s_c) y_c / sum_c |s_c|^2``.

    Parameters
    ----------
    images, maps
        Complex, the same layout, coils along ``axis``.

    Returns
    -------
    Tensor
        Complex, without the coil axis; 0 where all maps are 0.
    """
    power = maps.abs().square().sum(dim=axis)
    combined = (maps.conj() * images).sum(dim=axis)
    return torch.where(power > 0, combined / power.clamp_min(1e-30), 0)


def rss(images: Tensor, axis: int) -> Tensor:
    """Root of the sum of squares over the coils along ``axis``; real."""
    norm: Tensor = torch.linalg.vector_norm(images, dim=axis)
    return norm


def _cartesian(
    kspace: Tensor,
    geometry: MRGeometry,
    grid_shape: tuple[int, ...] | None,
    calibration: Tensor | None,
) -> tuple[Tensor, Cartesian, tuple[int, ...]]:
    """Cartesian k-space that holds the calibration data, where it is measured, and ``(z, y, x)``.

    Raises
    ------
    InconsistentError
        If shapes do not fit each other.
    """
    axis = geometry.coil_axis
    if not isinstance(geometry, NonCartesian):
        grid_shape = grid_shape or _without(kspace.shape, axis)
    elif grid_shape is None:
        raise InconsistentError("Coil maps along a trajectory need the shape of the image.")
    if calibration is not None:
        source, where = calibration, measured(calibration, axis)
    elif isinstance(geometry, NonCartesian):
        source = cartesian_centre(kspace, geometry, grid_shape)
        where = measured(source, axis)
    else:
        source, where = kspace, geometry
    shape = _without(source.shape, axis)
    fits = source.ndim == 4 and source.is_complex() and tuple(grid_shape) == shape
    if not fits or source.shape[axis] != kspace.shape[axis]:
        raise InconsistentError(
            f"Calibration k-space of shape {tuple(source.shape)} ({source.dtype}) does not fit "
            f"measurements of shape {tuple(kspace.shape)} and an image of shape {grid_shape}."
        )
    if shape[-where.mask.ndim :] != where.mask.shape:
        raise InconsistentError(
            f"k-space of shape {tuple(source.shape)} does not fit a mask of shape "
            f"{where.mask.shape}."
        )
    return source, where, shape


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(shape) if i != axis)


def _method(method: Method, *, kernel: int, noise_std: float, sets: int) -> _PlaneMethod:
    def by_espirit(plane: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return espirit(plane, shape, kernel=kernel, noise_std=noise_std, sets=sets)

    def by_walsh(plane: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        maps, share = walsh(low_resolution(plane, shape)[0], block=_voxels_per_line(plane, shape))
        return maps[None], share[None]

    def by_jsense(plane: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        maps = jsense(plane, shape)
        return maps[None], maps.real.new_ones(1, *shape)

    return {"espirit": by_espirit, "walsh": by_walsh, "jsense": by_jsense}[method]


def _voxels_per_line(plane: Tensor, shape: tuple[int, int]) -> int:
    """Width, odd, of what the plane's few lines resolve."""
    return 2 * max(n // (2 * lines) for n, lines in zip(shape, plane.shape[1:], strict=True)) + 1


def _fill(
    out: Tensor, planes: Planes, find: _PlaneMethod, noise_std: float, crop: float | None
) -> float:
    """Write the maps of every plane into ``(sets, planes, coils, h, w)``.

    Returns the mean of the first eigenvalue, weighted by the energy of the images.
    """
    power = [float(plane.abs().square().sum()) for plane in planes.data]
    strongest = max(range(len(power)), key=lambda i: power[i])
    if not power[strongest] > 0:
        raise InconsistentError("The middle of k-space is all zero: no coil map can be estimated.")
    reference = principal_direction(torch.cat([p.flatten(1) for p in planes.data], dim=1))
    shape = (out.shape[-2], out.shape[-1])
    eigenvalues = torch.zeros(len(out), len(power), *shape)
    explained, total = torch.zeros_like(eigenvalues), torch.zeros(len(power), *shape)
    variance = 0.0
    for i, plane in enumerate(planes.data):
        maps, values = _maps_or_those_of(planes.data[strongest], plane, shape, find)
        images, gain = low_resolution(plane, shape)
        for s, of_set in enumerate(maps):
            out[s, i] = refer_phase(of_set, reference)
            explained[s, i] = (of_set.conj() * images).sum(dim=0).abs().square().cpu()
        eigenvalues[:, i] = values.cpu()
        total[i] = images.abs().square().sum(dim=0).cpu()
        variance = gain * (noise_std * planes.noise) ** 2
    for s in range(len(out)):
        least = crop
        if least is None:
            least = automatic_crop(
                eigenvalues[s], explained[s], variance, total=total if s else None
            )
        if least > 0:
            out[s] *= (eigenvalues[s] >= least)[:, None].to(out)
    return float((eigenvalues[0] * total).sum() / total.sum())


def _check_rank(held: float, planes: Planes, kernel: int) -> None:
    """See whether the calibration data hold the space of all neighbourhoods.

    Each position of the kernel inside the calibration region shows one of its directions; if they
    are fewer than the signal has, no map explains all of the signal and eigenvalues fall below 1.

    Raises
    ------
    InconsistentError
        If maps could not explain the calibration data themselves.
    """
    if held >= _GOOD:
        return
    lines = min(planes.data, key=lambda plane: plane[0].numel()).shape[1:]
    message = (
        f"{lines[0]} by {lines[1]} calibration lines are too few for kernels of {kernel} by "
        f"{kernel} samples and {len(planes.data[0])} coils, or contradict each other: ESPIRiT's "
        f"mean eigenvalue in the object is {held:.2f} and should be near 1; measure more lines, "
        "compress the coils, take a smaller kernel or give maps"
    )
    if held < _POOR:
        raise InconsistentError(f"{message}.")
    warnings.warn(f"{message}.", stacklevel=3)


def _maps_or_those_of(
    strongest: Tensor, plane: Tensor, shape: tuple[int, int], find: _PlaneMethod
) -> tuple[Tensor, Tensor]:
    """Find the maps of a plane; one of zeros or noise (outside a slab) takes the strongest's."""
    if plane is not strongest:
        try:
            if bool(plane.any()):
                return find(plane, shape)
        except InconsistentError:
            pass
    return find(strongest, shape)
