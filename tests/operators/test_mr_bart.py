"""MR operators and calibration against BART's command line, where it is installed."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sigpy as sp
import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.calibration.coils import estimate_maps
from medrecon.calibration.prewhitening import (
    apply_to_coils,
    noise_covariance,
    whitening_matrix,
)
from medrecon.geometry import Cartesian, NonCartesian
from medrecon.geometry.kspace import image_to_kspace, kspace_to_image
from medrecon.grid import Grid
from medrecon.io.cfl_files import read_pair, write_pair
from medrecon.operators.nufft import NUFFT
from medrecon.operators.sense import sense_operator
from medrecon.preprocessing.partial_fourier import homodyne
from medrecon.sampling_masks import cartesian_mask
from medrecon.simulate_mr import coil_sensitivities
from medrecon.solvers.cg import conjugate_gradients
from medrecon.trajectories import radial
from tests.contracts import distance, random

pytestmark = pytest.mark.skipif(
    shutil.which("bart") is None, reason="BART is not installed (Debian package bart)"
)

Bart = Callable[..., Tensor]

# BART's NUFFT is off by 1.4e-3 in both directions here (against sums), by up to 7e-3 elsewhere;
# its plain sums (-s) are exact to single precision.
FORWARD, ADJOINT, SUMS = 1.5e-3, 7e-3, 1e-5


@pytest.fixture
def bart(tmp_path: Path) -> Bart:
    """``bart(command, *words and tensors)``: the result, its axes those of the tensors."""

    def run(*words: str | Tensor) -> Tensor:
        line = ["bart"]
        for number, word in enumerate(words):
            if isinstance(word, Tensor):
                array = word.resolve_conj().numpy().astype(np.complex64)
                base = tmp_path / f"in{number}"
                with (
                    base.with_suffix(".cfl").open("wb") as values,
                    base.with_suffix(".hdr").open("wb") as header,
                ):
                    write_pair(values, header, array.T)
                word = base.name
            line.append(word)
        subprocess.run([*line, "out"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
        return torch.from_numpy(np.ascontiguousarray(read_pair(tmp_path / "out").T)).squeeze()

    return run


def phantom(*shape: int) -> Tensor:
    """A few soft blobs with a phase, nothing symmetric."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    total = torch.zeros(shape, dtype=torch.complex64)
    for weight, width, *at in (
        (1.0, 0.5, 0.1, -0.1, 0.05),
        (0.7 + 0.3j, 0.2, -0.4, 0.2, 0.3),
        (-0.4j, 0.15, 0.3, 0.4, -0.3),
    ):
        r2 = torch.stack([(a - c) ** 2 for a, c in zip(axes, at, strict=False)]).sum(0)
        total += weight * torch.exp(-r2 / (2 * width**2))
    return total


def coils(count: int, z: int, y: int, x: int) -> Tensor:
    """Maps (coils, z, y, x)."""
    return coil_sensitivities(Grid.centred((z, y, x), (2.0, 1.0, 1.0)), count)


def noisy(y: Tensor, deviation: float) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return y + deviation * torch.randn(y.shape, dtype=y.dtype, generator=generator)


@pytest.mark.parametrize("shape", [(48, 64), (65, 47), (12, 9, 16)], ids=str)
def test_the_fourier_transform_is_that_of_bart(bart: Bart, shape: tuple[int, ...]) -> None:
    x = random(Space(shape, complex=True), precision=torch.float32)
    theirs = bart("fft", "-u", str(2 ** len(shape) - 1), x)
    assert distance(image_to_kspace(x, range(len(shape))), theirs) < 1e-6


def trajectories() -> dict[str, tuple[NonCartesian, tuple[int, ...]]]:
    anywhere = np.random.default_rng(0).uniform(-1, 1, (5, 40, 3)) * [6, 8, 7]
    return {
        "radial": (radial((32, 32), 24, 64), (32, 32)),
        "odd": (radial((27, 27), 16, 54, golden=True), (27, 27)),
        "3d": (NonCartesian(trajectory=anywhere), (12, 16, 14)),
    }


def bart_trajectory(geometry: NonCartesian) -> Tensor:
    """(shots, samples, (kx, ky, kz)), 1 / field of view."""
    k = np.zeros((*geometry.trajectory.shape[:2], 3))
    k[..., : geometry.trajectory.shape[-1]] = geometry.trajectory[..., ::-1]
    return torch.from_numpy(k).to(torch.complex64)


def origin(geometry: NonCartesian, shape: tuple[int, ...]) -> Tensor:
    """Phase from BART's origin, the middle ``n / 2``, to the voxel ``n // 2``: odd sizes only.

    Its Fourier transform and its fast NUFFT have other ideas of it, so these are not asked.
    """
    turns = sum(geometry.trajectory[..., a] * (n / 2 - n // 2) / n for a, n in enumerate(shape))
    return torch.from_numpy(np.exp(-2j * math.pi * turns)).to(torch.complex64)


@pytest.mark.parametrize("kind", trajectories())
def test_nufft_agrees_with_the_sums_of_bart(bart: Bart, kind: str) -> None:
    geometry, shape = trajectories()[kind]
    x = phantom(*shape)
    theirs = bart("nufft", "-s", bart_trajectory(geometry), x)
    theirs = theirs * origin(geometry, shape) / math.sqrt(math.prod(shape))
    assert distance(NUFFT(Space(shape, complex=True), geometry.trajectory)(x), theirs) < SUMS


@pytest.mark.parametrize("kind", trajectories())
def test_the_adjoint_of_nufft_agrees_with_the_sums_of_bart(bart: Bart, kind: str) -> None:
    geometry, shape = trajectories()[kind]
    A = NUFFT(Space(shape, complex=True), geometry.trajectory)
    y = A(phantom(*shape))
    theirs = bart(
        "nufft", "-a", "-s", "-d", sizes(shape), bart_trajectory(geometry),
        (y * origin(geometry, shape).conj())[..., None],
    )  # fmt: skip
    assert distance(A.adjoint(y), theirs / math.sqrt(math.prod(shape))) < SUMS


def test_nufft_agrees_with_bart_as_far_as_its_kernel_goes(bart: Bart) -> None:
    shape = (64, 64)
    geometry = radial(shape, 100, 128)
    A = NUFFT(Space(shape, complex=True), geometry.trajectory)
    x = phantom(*shape)
    y = A(x)
    assert distance(y, bart("nufft", bart_trajectory(geometry), x)) < FORWARD
    theirs = bart("nufft", "-a", "-d", sizes(shape), bart_trajectory(geometry), y[..., None])
    assert distance(A.adjoint(y), theirs) < ADJOINT


def sizes(shape: tuple[int, ...]) -> str:
    return ":".join(str(n) for n in (*shape[::-1], 1)[:3])


@pytest.mark.parametrize("encoded", [2, 3])
@pytest.mark.parametrize("ridge", [0.0, 0.05])
def test_cg_sense_agrees_with_bart(bart: Bart, encoded: int, ridge: float) -> None:
    """20 iterations from zero, noise and all."""
    shape = (1, 48, 40) if encoded == 2 else (12, 24, 20)
    maps = coils(6, *shape)
    mask = cartesian_mask(
        shape[-encoded:],
        pattern="poisson" if encoded == 3 else "uniform",
        acceleration=3,
        calibration_lines=6,
        generator=torch.Generator().manual_seed(0),
    )
    if encoded == 2:
        maps = maps.transpose(0, 1)
    A = sense_operator(Cartesian(mask=mask), maps)
    y = noisy(A(phantom(*shape)), 0.02) * torch.from_numpy(mask)
    ours = conjugate_gradients(
        lambda u: A.gram(u) + ridge * u, A.adjoint(y), max_iterations=20, tolerance=1e-12
    ).value
    coils_first = [t.transpose(0, 1) if encoded == 2 else t for t in (y, maps)]
    theirs = bart("pics", "-l2", f"-r{ridge}", "-w1", "-i20", *coils_first)
    assert distance(ours.squeeze(), theirs) < 1e-3


def test_cg_sense_along_a_trajectory_agrees_with_bart(bart: Bart) -> None:
    """As far as BART's own NUFFT allows."""
    geometry = radial((32, 32), 20, 64)
    maps = coils(5, 1, 32, 32).transpose(0, 1)
    A = sense_operator(geometry, maps)
    y = A(phantom(1, 32, 32))
    ridge = 0.1
    ours = conjugate_gradients(
        lambda u: A.gram(u) + ridge * u, A.adjoint(y), max_iterations=30, tolerance=1e-12
    ).value
    theirs = bart(
        "pics", "-l2", f"-r{ridge}", "-w1", "-i30", "-t", bart_trajectory(geometry),
        y[0][..., None], maps.transpose(0, 1),
    )  # fmt: skip
    assert distance(ours[0], theirs) < ADJOINT


@pytest.mark.parametrize("shape", [(1, 64, 48), (16, 32, 24)], ids=["2d", "3d"])
def test_espirit_finds_the_maps_of_bart(bart: Bart, shape: tuple[int, int, int]) -> None:
    """Inside the object theirs lie in the span of ours, and ours are no farther from the truth."""
    true = coils(6, *shape)
    image = torch.from_numpy(sp.shepp_logan(shape if shape[0] > 1 else shape[1:], dtype=complex))
    image = image.to(torch.complex64).reshape(shape)
    axes = (-2, -1) if shape[0] == 1 else (-3, -2, -1)
    y = noisy(image_to_kspace(true * image, axes), 1e-3)
    words = ["-a"] if shape[0] == 1 else []  # its automatic threshold does not survive 3D
    theirs = bart("ecalib", "-m1", "-r16", "-c0", *words, y).reshape(true.shape)
    if shape[0] == 1:
        whole = Cartesian(mask=np.ones(shape[1:], dtype=bool))
        ours = estimate_maps(y.transpose(0, 1), whole, calibration_lines=16, crop=0).transpose(0, 1)
    else:
        whole = Cartesian(mask=np.ones(shape, dtype=bool))
        ours = estimate_maps(y, whole, calibration_lines=16, crop=0)
    inside = image.abs() > 0.1
    assert beside(theirs, ours, inside) < 0.01
    assert beside(true, ours, inside) < beside(true, theirs, inside)


def beside(maps: Tensor, span: Tensor, inside: Tensor) -> float:
    """Share of ``maps`` (coils first) that is orthogonal to ``span`` at every voxel."""
    s, v = span[:, inside], maps[:, inside]
    along = s * (s.conj() * v).sum(0) / s.abs().square().sum(0)
    return float((v - along).norm() / v.norm())


def test_prewhitening_makes_the_noise_of_bart(bart: Bart) -> None:
    """``bart whiten`` inverts the Cholesky factor too: the same matrix, not only as good."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(4, 4, dtype=torch.complex64, generator=generator) + 2 * torch.eye(4)
    scan = mixing @ torch.randn(4, 4096, dtype=torch.complex64, generator=generator)
    y = mixing @ torch.randn(4, 60, dtype=torch.complex64, generator=generator)
    W = whitening_matrix(noise_covariance(scan))
    theirs = bart("whiten", y[:, None, None], scan[:, None, None])
    ours = apply_to_coils(W, y, 0)
    scale = math.sqrt(float(theirs.abs().square().sum() / ours.abs().square().sum()))
    assert distance(scale * ours, theirs) < 1e-3
    assert abs(scale - 1) < 1e-3


def test_homodyne_detection_is_no_worse_than_that_of_bart(bart: Bart) -> None:
    """Other filters, the same idea: 40 of 64 lines of an image with a slow phase."""
    turn = torch.exp(1j * torch.linspace(-0.5, 0.5, 64))[:, None]
    x = phantom(64, 48).real * turn
    mask = np.zeros((64, 48), dtype=bool)
    mask[:40] = True
    y = image_to_kspace(x, (-2, -1)) * torch.from_numpy(mask)
    ours = kspace_to_image(homodyne(y, mask, (-2, -1)), (-2, -1)).abs()
    theirs = bart("homodyne", "1", str(40 / 64), y).abs()
    assert float((ours - theirs).norm() / ours.norm()) < 0.03
    assert (ours - x.abs()).norm() < (theirs - x.abs()).norm()
