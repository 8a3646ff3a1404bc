"""GRAPPA on k-space that is known in full, and beside another implementation."""

import numpy as np
import pytest
import torch

from medrecon.baselines import grappa
from medrecon.baselines.grappa_kernels import kernels
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import image_to_kspace
from medrecon.grid import Grid
from medrecon.simulate_mr import coil_sensitivities


def scan(shape, coils=8):
    """Noiseless k-space of an image of ellipses, in full: slice-wise ``(z, coils, y, x)``."""
    grid = Grid.centred(shape, (2.0, 2.0, 2.0))
    z, y, x = (torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape)
    Z, Y, X = torch.meshgrid(z, y, x, indexing="ij")
    image = ((X / 0.7) ** 2 + (Y / 0.8) ** 2 + (Z / 0.8) ** 2 < 1).float()
    image += (((X - 0.2) / 0.2) ** 2 + ((Y + 0.1) / 0.3) ** 2 < 1) * (1 + Z.abs())
    return image, coil_sensitivities(grid, coils) * image


def lines(ny, step, acs, first=0):
    mask = np.zeros(ny, dtype=bool)
    mask[first::step] = True
    mask[ny // 2 - acs // 2 : ny // 2 - acs // 2 + acs] = True
    return mask


def plane(mask, nx):
    return np.broadcast_to(mask[:, None], (len(mask), nx)).copy()


def error(filled, full):
    return float((filled - full).norm() / full.norm())


@pytest.mark.parametrize("shape", [(2, 64, 64), (1, 63, 65)])
@pytest.mark.parametrize(("step", "first", "bound"), [(2, 0, 0.002), (3, 1, 0.005), (4, 2, 0.02)])
def test_uniform_lines_are_filled(shape, step, first, bound):
    _, images = scan(shape)
    full = image_to_kspace(images, (-2, -1)).transpose(0, 1)
    mask = plane(lines(shape[1], step, 20, first), shape[2])
    measured = full * torch.from_numpy(mask)
    filled = grappa(measured, Cartesian(mask=mask), regularization=1e-6)
    assert torch.equal(filled * torch.from_numpy(mask), measured)
    assert filled.dtype == full.dtype
    assert error(filled, full) < bound < 0.25 * error(measured, full)


@pytest.mark.parametrize("shift", [0, 1])
def test_two_accelerated_axes_and_shifted_patterns_are_filled(shift):
    _, images = scan((24, 32, 24))
    full = image_to_kspace(images, (-3, -2, -1))
    pattern = np.zeros((24, 32), dtype=bool)
    for z in range(0, 24, 2):
        pattern[z, (shift * (z // 2)) % 2 :: 2] = True
    pattern[5:19, 9:23] = True
    mask = np.broadcast_to(pattern[..., None], (24, 32, 24)).copy()
    measured = full * torch.from_numpy(mask)
    filled = grappa(measured, Cartesian(mask=mask), regularization=1e-6)
    assert error(filled, full) < 0.05 < 0.35 * error(measured, full)


def test_calibration_may_come_from_a_scan_of_its_own():
    _, images = scan((1, 64, 64))
    full = image_to_kspace(images, (-2, -1)).transpose(0, 1)
    mask = plane(lines(64, 3, 0), 64)
    measured = full * torch.from_numpy(mask)
    filled = grappa(
        measured, Cartesian(mask=mask), 7 * full[..., 20:44, 10:50], regularization=1e-6
    )
    assert error(filled, full) < 0.02
    with pytest.raises(InconsistentError, match="calibration lines"):
        grappa(measured, Cartesian(mask=mask))


def test_every_slice_may_have_its_own_pattern():
    _, images = scan((2, 48, 48))
    full = image_to_kspace(images, (-2, -1)).transpose(0, 1)
    both = np.stack([plane(lines(48, 2, 16, first), 48) for first in (0, 1)])
    filled = grappa(full * torch.from_numpy(both)[:, None], Cartesian(mask=both, encoded=2))
    for index in (0, 1):
        alone = grappa(
            full[index : index + 1] * torch.from_numpy(both[index]), Cartesian(mask=both[index])
        )
        assert torch.equal(filled[index : index + 1], alone)


def test_partial_fourier_and_asymmetric_echoes_stay_empty():
    _, images = scan((1, 64, 64))
    full = image_to_kspace(images, (-2, -1)).transpose(0, 1)
    mask = plane(lines(64, 2, 20), 64)
    mask[:16], mask[:, :8] = False, False
    filled = grappa(full * torch.from_numpy(mask), Cartesian(mask=mask), regularization=1e-6)
    assert not filled[..., :15, :].any()
    assert not filled[..., :8].any()
    inside = (..., slice(16, None), slice(8, None))
    assert error(filled[inside], full[inside]) < 0.01


def test_uniform_lines_have_one_kernel_per_missing_line_of_a_step():
    found = kernels(lines(400, 4, 0)[None], neighbours=4, readout=5)
    regular = [k for k in found if len(k.targets) > 50]
    assert sorted(k.offsets for k in regular) == sorted(
        tuple(sorted(((0, a), (0, a - 4), (0, a + 4), (0, a - 8)), key=lambda o: (o[1] ** 2, o[1])))
        if a != 2
        else ((0, -2), (0, 2), (0, -6), (0, 6))
        for a in (1, 2, 3)
    )


def test_patterns_that_it_cannot_fill_are_refused():
    generator = np.random.default_rng(0)
    kspace = torch.ones(1, 2, 32, 32, dtype=torch.complex64)
    samples = generator.random((32, 32)) < 0.4
    samples[12:20, 12:20] = True
    with pytest.raises(InconsistentError, match="whole lines along x"):
        grappa(kspace, Cartesian(mask=samples))
    points = generator.random((64, 64)) < 0.3
    with pytest.raises(InconsistentError, match="too many for GRAPPA"):
        kernels(points, 12, 5)
    with pytest.raises(InconsistentError, match="odd number"):
        kernels(points, 4, 4)
    with pytest.raises(InconsistentError, match="does not fit"):
        grappa(kspace[..., :30], Cartesian(mask=samples))


def test_beside_pygrappa_it_loses_less():
    pytest.importorskip("skimage", reason="pygrappa needs scikit-image and does not say so")
    mdgrappa = pytest.importorskip("pygrappa").mdgrappa
    _, images = scan((1, 64, 64))
    full = image_to_kspace(images, (-2, -1)).transpose(0, 1)
    mask = plane(lines(64, 2, 20), 64)
    measured = full * torch.from_numpy(mask)
    ours = grappa(measured, Cartesian(mask=mask), regularization=1e-5)
    peer = mdgrappa(
        measured[0].numpy(), full[0, :, 22:42].numpy(), coil_axis=0, lamda=1e-5, kernel_size=(7, 5)
    )
    assert error(torch.from_numpy(peer)[None], full) < 0.05
    assert error(ours, full) < error(torch.from_numpy(peer)[None], full)
