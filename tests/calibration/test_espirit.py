"""ESPIRiT against BART, against its own definition, and where the field of view is folded."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medrecon.calibration.coils import coil_combine, estimate_maps, rss
from medrecon.calibration.espirit import espirit
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import image_to_kspace
from medrecon.grid import Grid
from medrecon.simulate_mr import coil_sensitivities
from tests.calibration.test_coils import kspace_of, lines, object_and_coils, unexplained

BART = shutil.which("bart")


def bart(folder: Path, *words: str) -> None:
    subprocess.run(["bart", *words], cwd=folder, check=True, capture_output=True)


def read_cfl(folder: Path, name: str) -> Tensor:
    sizes = (folder / f"{name}.hdr").read_text().splitlines()[1].split()
    data = np.fromfile(folder / f"{name}.cfl", dtype=np.complex64)
    return torch.from_numpy(data.reshape([int(n) for n in sizes][::-1]).squeeze())


@pytest.mark.skipif(BART is None, reason="bart is not installed")
@pytest.mark.parametrize("variance", ["0.01", "100"])
def test_maps_are_as_good_as_those_of_bart_with_its_automatic_threshold(
    tmp_path: Path, variance: str
) -> None:
    bart(tmp_path, "phantom", "-x64", "-s8", "images")
    bart(tmp_path, "phantom", "-x64", "-k", "-s8", "clean")
    bart(tmp_path, "noise", "-s1", "-n", variance, "clean", "kspace")
    bart(tmp_path, "ecalib", "-a", "-m1", "-c0", "-r24", "-k6", "kspace", "theirs")
    images, kspace = read_cfl(tmp_path, "images"), read_cfl(tmp_path, "kspace")
    support = rss(images, 0) > 1e-3 * float(rss(images, 0).max())
    geometry = Cartesian(mask=np.ones((64, 64), dtype=bool))
    theirs = unexplained(read_cfl(tmp_path, "theirs"), images, support)
    for noise_std in (math.sqrt(float(variance)), None):
        maps = estimate_maps(kspace[None], geometry, noise_std=noise_std)[0]
        assert unexplained(maps, images, support) < 1.1 * theirs
        assert bool((rss(maps, 0)[support] > 0.999).all())  # the crop leaves no holes


def test_maps_are_eigenvectors_of_the_projection_seen_in_the_image() -> None:
    image, truth = object_and_coils((40, 36), 3)
    k, coils, shape = 4, 3, (40, 36)
    calibration = kspace_of(image, truth)[:, 10:30, 8:28].to(torch.complex128)
    rows = [calibration[:, i : i + k, j : j + k].flatten() for i in range(17) for j in range(17)]
    _, s, Vh = torch.linalg.svd(torch.stack(rows), full_matrices=False)
    edge = 0.004 * (math.sqrt(len(rows)) + math.sqrt(coils * k * k))
    V = Vh[s > max(edge, 3e-5 * float(s[0]))].T  # its columns span the patches
    # what a voxel at q with the sensitivities s makes of a patch: s_c exp(-2 pi i k q)
    q = (13, 29)
    turns = [torch.arange(k) * (q[a] - shape[a] // 2) / shape[a] for a in range(2)]
    phase = torch.exp(-2j * math.pi * (turns[0][:, None] + turns[1]).double()).flatten()
    H = torch.block_diag(*[phase[:, None]] * coils) / k
    G = H.mH @ V @ V.mH @ H
    maps, values = espirit(calibration, shape, kernel=k, noise_std=0.004, sets=coils)
    exact_values, exact = torch.linalg.eigh(G)
    assert torch.allclose(values[:, q[0], q[1]], exact_values.flip(0), atol=1e-6)
    overlap = (exact[:, -1].conj() @ maps[0, :, q[0], q[1]]).abs()
    assert math.isclose(float(overlap), 1, abs_tol=1e-6)


def test_one_set_and_several_begin_alike() -> None:
    image, truth = object_and_coils((48, 40), 5)
    calibration = kspace_of(image, truth)[:, 12:36, 8:32]
    one, value = espirit(calibration, (48, 40), kernel=6, noise_std=0.004)
    two, values = espirit(calibration, (48, 40), kernel=6, noise_std=0.004, sets=2)
    assert torch.allclose(value[0], values[0], atol=1e-3)
    apart = values[0] - values[1] > 0.05
    overlap = (one[0].conj() * two[0]).sum(dim=0).abs()
    assert float((1 - overlap)[apart].abs().max()) < 1e-5


def folded(fold: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coil images of an object ``fold`` voxels taller than the field of view at either end.

    Also where there is signal, where two places of the object coincide, and what both true sets of
    sensitivities there are.
    """
    tall, wide, coils = 64 + 2 * fold, 64, 8
    grid = Grid.centred((1, tall, wide), (1.0, 1.0, 1.0))
    truth = coil_sensitivities(grid, coils)[:, 0]
    y, x = torch.meshgrid(torch.linspace(-1, 1, tall), torch.linspace(-1, 1, wide), indexing="ij")
    image = ((y**2 + (x / 0.7) ** 2) < 0.95) * (1 + 0.4 * torch.cos(6 * x + 5 * y)) + 0j
    seen = truth * image
    inside = seen[:, fold:-fold].clone()
    inside[:, -fold:] += seen[:, :fold]
    inside[:, :fold] += seen[:, -fold:]
    support = image[fold:-fold].abs() > 0
    twice = torch.zeros_like(support)
    twice[-fold:] = (image[:fold].abs() > 0) & support[-fold:]
    twice[:fold] = (image[-fold:].abs() > 0) & support[:fold]
    return inside, support, twice, truth


def explained_by(maps: Tensor, images: Tensor, where: Tensor) -> float:
    """Unexplained share of the images in the span of ``(sets, coils, y, x)``."""
    A = maps.permute(2, 3, 1, 0)[where]
    y = images.permute(1, 2, 0)[where][..., None].to(A.dtype)
    rest = y - A @ (torch.linalg.pinv(A, rtol=1e-3) @ y)
    return float(rest.norm() / y.norm())


def test_a_folded_field_of_view_needs_two_sets() -> None:
    images, support, twice, _ = folded(10)
    noise = 0.002
    generator = torch.Generator().manual_seed(0)
    kspace = image_to_kspace(images, (-2, -1))
    kspace = kspace + noise * torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
    geometry = Cartesian(mask=lines((64, 64), 24))
    sampled = (kspace * torch.from_numpy(geometry.mask))[None]
    one = estimate_maps(sampled, geometry, noise_std=noise)
    two = estimate_maps(sampled, geometry, noise_std=noise, sets=2)
    assert two.shape == (2, 1, 8, 64, 64)
    assert twice.sum() > 100
    assert explained_by(one, images, twice) > 0.1
    assert explained_by(two[:, 0], images, twice) < 0.02
    assert explained_by(two[:, 0], images, support) < 0.02
    second = rss(two[1, 0], 0) > 0  # kept where it is needed, and hardly elsewhere
    assert float(second[twice].float().mean()) > 0.9
    assert float(second[support & ~twice].float().mean()) < 0.25


def test_noisy_maps_are_cropped_around_the_object_and_not_in_it() -> None:
    image, truth = object_and_coils((64, 48), 6)
    noise = 0.05
    geometry = Cartesian(mask=np.ones((64, 48), dtype=bool))
    maps = estimate_maps(kspace_of(image, truth, noise)[None], geometry, noise_std=noise)
    kept = rss(maps, 1)[0] > 0
    assert bool(kept[image.abs() > 0.05].all())
    assert float(kept[image.abs() == 0].float().mean()) < 0.6


def test_too_strong_a_guess_of_the_noise_is_corrected_by_the_data() -> None:
    image, truth = object_and_coils((64, 48), 6)
    geometry = Cartesian(mask=lines((64, 48), 24))
    kspace = kspace_of(image, truth)[None]
    support = image.abs() > 0.05
    right, wrong = (
        unexplained(
            estimate_maps(kspace, geometry, noise_std=std, crop=0)[0], truth * image, support
        )
        for std in (0.004, 4.0)
    )
    assert wrong < 2 * right


def test_calibration_that_cannot_hold_the_maps_is_refused() -> None:
    image, truth = object_and_coils((64, 64), 6)
    kspace = kspace_of(image, truth)[None]
    box = np.zeros((64, 64), dtype=bool)
    box[28:36, 28:36] = True
    with pytest.raises(InconsistentError, match=r"8 by 8 calibration lines are too few.*give maps"):
        estimate_maps(kspace, Cartesian(mask=box), noise_std=0.004)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 6, 64, 64, dtype=torch.complex64, generator=generator)
    whole = Cartesian(mask=np.ones((64, 64), dtype=bool))
    with pytest.raises(InconsistentError, match=r"fill 216 of the 216 .*give maps"):
        estimate_maps(noise, whole, noise_std=1e-9 + 0.0)
    with pytest.raises(InconsistentError, match="Only espirit"):
        estimate_maps(kspace, whole, method="walsh", sets=2)


def test_a_slice_without_signal_takes_the_maps_of_the_strongest() -> None:
    image, truth = object_and_coils((48, 40), 4)
    kspace = torch.stack([kspace_of(image, truth), torch.zeros(4, 48, 40)])
    maps = estimate_maps(kspace, Cartesian(mask=lines((48, 40), 24)), noise_std=0.004, crop=0)
    assert torch.allclose(maps[1], maps[0], atol=1e-4)


def test_patterns_of_their_own_are_calibrated_slice_by_slice() -> None:
    image, truth = object_and_coils((64, 48), 5)
    kspace = torch.stack([kspace_of(image, truth)] * 2)
    masks = np.stack([lines((64, 48), 24), lines((64, 48), 16)])
    geometry = Cartesian(mask=masks, encoded=2)
    sampled = kspace * torch.from_numpy(geometry.samples)
    maps = estimate_maps(sampled, geometry, noise_std=0.004, crop=0)
    for i, mask in enumerate(masks):
        alone = estimate_maps(sampled[i : i + 1], Cartesian(mask=mask), noise_std=0.004, crop=0)
        overlap = (maps[i].conj() * alone[0]).sum(dim=0).abs()
        assert float(overlap.min()) > 0.999


@pytest.mark.parametrize("is_3d", [False, True])
def test_a_separate_calibration_scan_takes_the_place_of_the_middle(is_3d: bool) -> None:
    image, truth = object_and_coils((32, 40), 4)
    along_z = 1 + torch.rand(24, generator=torch.Generator().manual_seed(0))
    full = kspace_of(image, truth)[:, None] * along_z[:, None, None]
    full = image_to_kspace(full, (-3,)) if is_3d else full.transpose(0, 1)
    mask = np.zeros((24, 32, 40) if is_3d else (32, 40), dtype=bool)
    mask[..., ::2, :] = True
    middle = np.zeros_like(mask)
    middle[..., 8:24, 8:32] = True
    geometry = Cartesian(mask=mask)
    measured, calibration = (full * torch.from_numpy(m) for m in (mask, middle))
    with pytest.raises(InconsistentError, match="found 1"):
        estimate_maps(measured, geometry, noise_std=0.004)
    maps = estimate_maps(
        measured, geometry, (24, 32, 40), noise_std=0.004, crop=0, calibration=calibration
    )
    coil_axis = geometry.coil_axis
    for z in (0, 11):
        plane = maps.select(1 - coil_axis, z)
        assert unexplained(plane, truth * image, image.abs() > 0.05) < 0.02
    with pytest.raises(InconsistentError, match="all zero"):
        estimate_maps(measured, geometry, noise_std=1.0, calibration=0 * calibration)
    with pytest.raises(InconsistentError, match="does not fit"):
        estimate_maps(measured, geometry, noise_std=1.0, calibration=calibration[..., :-1])
    with pytest.raises(InconsistentError, match="does not fit"):
        estimate_maps(measured, geometry, (24, 32, 41), noise_std=1.0)


def test_combining_two_sets_is_not_needed_without_folds() -> None:
    image, truth = object_and_coils((64, 48), 5)
    geometry = Cartesian(mask=lines((64, 48), 24))
    two = estimate_maps(kspace_of(image, truth, 0.02)[None], geometry, noise_std=0.02, sets=2)
    support = image.abs() > 0.05
    assert float((rss(two[1, 0], 0) > 0)[support].float().mean()) < 0.1
    assert unexplained(two[0, 0], truth * image, support) < 0.05
    assert coil_combine(truth * image, two[0, 0], 0).shape == (64, 48)
