"""Data of the MR benchmark's cases, made here, and who is right: errors against the truth."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable

import finufft
import numpy as np
import sigpy as sp
import torch

from medrecon.geometry.kspace import image_to_kspace
from medrecon.grid import Grid
from medrecon.sampling_masks import cartesian_mask
from medrecon.simulate_mr import coil_sensitivities
from medrecon.trajectories import radial
from tests.benchmarks.mri_peers import Bart
from tests.benchmarks.mri_timing import Array, Arrays

COILS = 8
NOISE = 0.01  # of CG-SENSE's k-space; the object is 1
CALIBRATION_NOISE = 5e-4  # of ESPIRiT's k-space, relative to the brightest pixel of any coil

Judge = Callable[[Arrays, dict[str, Array]], dict[str, float]]


def relative(found: Array, truth: Array) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def ring_maps(shape: tuple[int, int, int]) -> Array:
    """Sensitivities of loops around the object, (z, coils, y, x)."""
    maps = coil_sensitivities(Grid.centred(shape, (3.3, 0.7, 0.7)), COILS)
    return np.ascontiguousarray(maps.transpose(0, 1).numpy())


# NUFFT and its gram


def nufft_data(size: int) -> Arrays:
    """8 coil images of white noise on 402 spokes of 512 samples, and samples of white noise.

    Noise, because a smooth object has little where transforms err most: plans that seem exact to
    1e-5 on a phantom are off by 2e-5 on noise.
    """
    rng = np.random.default_rng(0)
    spokes = 402 * size // 256
    trajectory = radial((size, size), spokes, 2 * size).trajectory
    return {
        "trajectory": trajectory,
        "images": white(rng, (COILS, size, size)),
        "image": white(rng, (size, size)),
        "maps": ring_maps((1, size, size))[0],
        "kspace": white(rng, (COILS, *trajectory.shape[:2])),
    }


def white(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Complex noise, single precision."""
    parts = rng.standard_normal((2, *shape), dtype=np.float32)
    return np.asarray(parts[0] + 1j * parts[1], dtype=np.complex64)


def points_of(trajectory: Array, shape: tuple[int, ...]) -> list[Array]:
    return [2 * math.pi * trajectory[..., a].ravel() / n for a, n in enumerate(shape)]


def exact_forward(images: Array, trajectory: Array) -> Array:
    """In double precision to 1e-12; where it serves as truth, sums stand beside it."""
    points = points_of(trajectory, images.shape[1:])
    scale = math.sqrt(math.prod(images.shape[1:]))
    y = finufft.nufft2d2(*points, images.astype(np.complex128), eps=1e-12, isign=-1)
    return np.asarray(y / scale).reshape(len(images), *trajectory.shape[:2])


def toeplitz_data(size: int) -> Arrays:
    """Truths: ``A^H A`` of the coil images, and with maps of the image, in double precision."""
    arrays = nufft_data(size)
    trajectory = arrays["trajectory"]
    images = arrays["images"] = arrays["maps"] * arrays["image"]
    shape = images.shape[1:]
    y = exact_forward(images, trajectory).reshape(COILS, -1)
    points = points_of(trajectory, shape)
    gram = finufft.nufft2d1(*points, y, shape, eps=1e-12, isign=1) / math.sqrt(math.prod(shape))
    sense = (arrays["maps"].conj() * gram).sum(0, keepdims=True)
    return arrays | {"expected_gram": gram, "expected_sense": sense}


def sums(arrays: Arrays, shape: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
    """Which samples and pixels are checked, and the exact sums there."""
    rng = np.random.default_rng(0)
    k = arrays["trajectory"].reshape(-1, 2)
    chosen = rng.choice(len(k), 1000, replace=False)
    pixels = rng.choice(math.prod(shape), 40, replace=False)
    over = [np.arange(n) - n // 2 for n in shape]
    scale = 1 / math.sqrt(math.prod(shape))
    phase_y, phase_x = (
        np.exp(-2j * math.pi * np.outer(k[chosen, a], over[a]) / shape[a]) for a in (0, 1)
    )
    half = np.einsum("ky,cyx->ckx", phase_y, arrays["images"].astype(np.complex128))
    forward = np.einsum("kx,ckx->ck", phase_x, half) * scale
    at = np.unravel_index(pixels, shape)
    turns = sum(np.outer(over[a][at[a]], k[:, a]) / shape[a] for a in (0, 1))
    samples = arrays["kspace"].reshape(COILS, -1).astype(np.complex128)
    adjoint = samples @ np.exp(2j * math.pi * turns).T * scale
    return chosen, forward, pixels, adjoint


def judge_nufft(arrays: Arrays, results: dict[str, Array]) -> dict[str, float]:
    """Against sums in double precision at 1000 samples and 40 pixels."""
    chosen, forward, pixels, adjoint = sums(arrays, arrays["image"].shape)
    return {
        "forward": relative(results["forward"].reshape(COILS, -1)[:, chosen], forward),
        "adjoint": relative(results["adjoint"].reshape(COILS, -1)[:, pixels], adjoint),
    }


def judge_gram(arrays: Arrays, results: dict[str, Array]) -> dict[str, float]:
    found = results["run"]
    expected = arrays["expected_gram" if found.ndim == 3 and len(found) > 1 else "expected_sense"]
    return {"run": relative(found.reshape(expected.shape), expected)}


# CG-SENSE


def cg_sense_data(size: int) -> Arrays:
    """Every fourth line and 8 % calibration lines; 16 slices of 320 x 320 at full size."""
    slices = 16 if size == 320 else 2
    generator = torch.Generator().manual_seed(0)
    phantom = sp.shepp_logan((size, size)).astype(np.complex64)
    truth = phantom * np.linspace(0.8, 1.2, slices, dtype=np.float32)[:, None, None]
    maps = ring_maps((slices, size, size))
    mask = cartesian_mask(
        (size, size),
        pattern="uniform",
        acceleration=1 / (0.08 + 0.92 / 4),  # every fourth line beside the middle
        calibration_lines=round(0.08 * size),
        generator=generator,
    )
    clean = image_to_kspace(torch.from_numpy(maps * truth[:, None]), (-2, -1))
    noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator)
    kspace = ((clean + NOISE * noise) * torch.from_numpy(mask)).numpy()
    return {"truth": truth, "maps": maps, "mask": mask, "kspace": kspace}


def judge_image(arrays: Arrays, results: dict[str, Array]) -> dict[str, float]:
    return {"run": relative(results["run"], arrays["truth"])}


# ESPIRiT


def noisy(kspace: Array, coil_images: Array) -> Array:
    rng = np.random.default_rng(0)
    deviation = CALIBRATION_NOISE * np.abs(coil_images).max() / math.sqrt(2)
    noise = rng.standard_normal((2, *kspace.shape), dtype=np.float32)
    return np.asarray(kspace + deviation * (noise[0] + 1j * noise[1]), dtype=np.complex64)


def espirit_2d_data(size: int) -> Arrays:
    """BART's phantom, measured analytically; the truth are maps times the phantom on voxels.

    Without BART: our ring of loops around Shepp and Logan's phantom, measured by an FFT.
    """
    if shutil.which("bart") is None:
        return _espirit(sp.shepp_logan((1, size, size)), ring_maps((1, size, size)), 2)
    bart = Bart()
    coil_images = bart("phantom", f"-x{size}", f"-s{COILS}", "i").reshape(COILS, size, size)
    kspace = bart("phantom", f"-x{size}", "-k", f"-s{COILS}", "k").reshape(COILS, size, size)
    # its k-space has another unit than its image
    unit = np.vdot(_image(kspace), coil_images) / np.vdot(coil_images, coil_images)
    truth = (coil_images * unit.real).astype(np.complex64)
    return {"kspace": noisy(kspace, truth), "truth": truth}


def espirit_3d_data(size: int) -> Arrays:
    """BART's phantom in 3D and its coils, measured by an FFT (the analytic one takes hours)."""
    if shutil.which("bart") is None:
        phantom = sp.shepp_logan((size, size, size))
        return _espirit(phantom, ring_maps((size, size, size)), 3)
    bart = Bart()
    image = bart("phantom", f"-x{size}", "-3", "i").reshape(size, size, size)
    maps = bart("phantom", f"-x{size}", "-3", f"-S{COILS}", "s").reshape(COILS, size, size, size)
    return _espirit(image, maps.swapaxes(0, 1), 3)


def _espirit(image: Array, maps: Array, encoded: int) -> Arrays:
    truth: Array = (maps.swapaxes(0, 1) * image).astype(np.complex64)
    kspace: Array = image_to_kspace(torch.from_numpy(truth), tuple(range(-encoded, 0))).numpy()
    if encoded == 2:
        truth, kspace = truth[:, 0], kspace[:, 0]
    return {"kspace": noisy(kspace, truth), "truth": truth}


def _image(kspace: Array) -> Array:
    axes = (-2, -1)
    image = np.fft.ifftn(np.fft.ifftshift(kspace, axes=axes), axes=axes, norm="ortho")
    return np.asarray(np.fft.fftshift(image, axes=axes))


def judge_maps(arrays: Arrays, results: dict[str, Array]) -> dict[str, float]:
    """How much of the coil images lies beside the maps: ``|(I - P) c| / |c|`` in the object.

    Where maps were cut off inside the object, all of the signal counts as lost.
    """
    truth, maps = arrays["truth"], results["run"]
    energy, kept = 0.0, 0.0
    for plane in range(truth.shape[1]):  # plane by plane: 3D would need gigabytes
        c, s = truth[:, plane].astype(np.complex128), maps[:, plane]
        inside = np.abs(c).max(0) > 1e-6
        power = (np.abs(s) ** 2).sum(0)
        part = np.abs((s.conj() * c).sum(0)) ** 2 / np.maximum(power, 1e-30)
        energy += float((np.abs(c) ** 2).sum(0)[inside].sum())
        kept += float(part[inside].sum())
    return {"run": math.sqrt(max(energy - kept, 0.0) / energy)}


DATA: dict[str, tuple[Callable[[int], Arrays], int, int]] = {
    "nufft": (nufft_data, 256, 64),
    "toeplitz": (toeplitz_data, 256, 64),
    "cg_sense": (cg_sense_data, 320, 64),
    "espirit_2d": (espirit_2d_data, 256, 64),
    "espirit_3d": (espirit_3d_data, 128, 32),
}
"""Case to maker, full size, and the size of ``--quick``."""

JUDGES: dict[str, Judge] = {
    "nufft": judge_nufft,
    "toeplitz": judge_gram,
    "cg_sense": judge_image,
    "espirit_2d": judge_maps,
    "espirit_3d": judge_maps,
}
