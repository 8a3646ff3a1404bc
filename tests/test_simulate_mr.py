from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import sigpy as sp
import torch

from medrecon.calibration.coils import coil_combine, rss
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import kspace_to_image
from medrecon.grid import Grid
from medrecon.sampling_masks import cartesian_mask, undersample
from medrecon.simulate_mr import coil_sensitivities, simulate_mr
from medrecon.volume import Unit, Volume

GRID = Grid.centred((4, 48, 40), (5.0, 4.0, 4.0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def head(grid: Grid = GRID) -> Volume:
    image = torch.from_numpy(sp.shepp_logan(grid.shape).real.astype(np.float32))
    return Volume(image.clamp_min(0), grid, Unit.ARBITRARY)


def study(mask: np.ndarray | None = None, noise: float = 0.0, coils: int = 5):
    full = np.ones((48, 40), dtype=bool)
    mask = full if mask is None else mask
    return simulate_mr(head(), coils=coils, mask=mask, noise_std=noise, generator=seeded())


@pytest.mark.parametrize("layout", ["2d", "3d"])
def test_combining_noise_free_data_with_the_true_maps_gives_the_reference(layout: str) -> None:
    mask = np.ones((48, 40) if layout == "2d" else GRID.shape, dtype=bool)
    scan = study(mask)
    axis = 1 if layout == "2d" else 0
    maps = coil_sensitivities(GRID, 5)
    maps = maps.transpose(0, 1) if axis else maps
    images = kspace_to_image(scan.measurements, range(-mask.ndim, 0))
    assert scan.reference is not None
    assert torch.allclose(coil_combine(images, maps, axis).abs(), scan.reference, atol=1e-5)
    assert torch.allclose(scan.reference, head().data)
    assert scan.identity.simulated
    assert scan.grid == GRID


def test_the_noise_has_the_strength_asked_for_and_stays_inside_the_mask() -> None:
    mask = cartesian_mask(
        (48, 40), pattern="uniform", acceleration=2, calibration_lines=8, generator=seeded()
    )
    noisy, clean = study(mask, 0.1), study(mask)
    noise = (noisy.measurements - clean.measurements)[..., torch.from_numpy(mask)]
    expected = 0.1 * float(np.quantile(head().data.numpy(), 0.99))
    assert noisy.noise_std == pytest.approx(expected)
    assert clean.noise_std is None
    assert float(noise.abs().square().mean().sqrt()) == pytest.approx(expected, rel=0.03)
    assert not bool(noisy.measurements[..., torch.from_numpy(~mask)].any())


def test_the_same_seed_gives_the_same_scan() -> None:
    assert torch.equal(study(noise=0.1).measurements, study(noise=0.1).measurements)


def test_sensitivities_are_smooth_differ_and_have_unit_norm() -> None:
    maps = coil_sensitivities(GRID, 8)
    assert torch.allclose(rss(maps, 0), torch.ones(GRID.shape), atol=1e-6)
    assert float((maps[:, :, 1:] - maps[:, :, :-1]).abs().max()) < 0.2
    flat = maps.flatten(1)
    values = torch.linalg.svdvals(flat)
    assert float(values[-1] / values[0]) > 0.01
    top, bottom = maps[:, 0].abs(), maps[:, -1].abs()
    assert float((top - bottom).abs().max()) > 0.05  # coils encode along z, too


def test_every_coil_is_strongest_beside_itself() -> None:
    maps = coil_sensitivities(GRID, 4).abs()[:, 2]
    assert maps[0, 24, 39] == maps[:, 24, 39].max()  # coil 0 stands at +x
    assert maps[1, 47, 20] == maps[:, 47, 20].max()  # coil 1 at +y
    assert maps[2, 24, 0] == maps[:, 24, 0].max()


def test_a_mask_or_an_image_that_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InconsistentError, match="does not fit"):
        study(np.ones((40, 48), dtype=bool))
    empty = Volume(torch.zeros(GRID.shape), GRID, Unit.ARBITRARY)
    full = np.ones((48, 40), dtype=bool)
    with pytest.raises(InconsistentError, match="empty"):
        simulate_mr(empty, coils=2, mask=full, noise_std=0, generator=seeded())


@pytest.mark.parametrize("pattern", ["uniform", "random", "poisson"])
@pytest.mark.parametrize("acceleration", [1.0, 2.0, 3.7, 6.0])
@pytest.mark.parametrize("shape", [(96, 64), (75, 51)])
def test_masks_have_the_acceleration_they_are_asked_for(
    pattern: str, acceleration: float, shape: tuple[int, int]
) -> None:
    mask = cartesian_mask(
        shape,
        pattern=pattern,  # type: ignore[arg-type]
        acceleration=acceleration,
        calibration_lines=10,
        generator=seeded(),
    )
    unit = mask.size if pattern == "poisson" else shape[0]
    assert mask.sum() / mask.size * unit == pytest.approx(round(unit / acceleration))
    c = shape[0] // 2
    middle = mask[c - 5 : c + 5]
    assert middle.all() if pattern != "poisson" else middle[:, 24:34].any()
    again = cartesian_mask(
        shape,
        pattern=pattern,  # type: ignore[arg-type]
        acceleration=acceleration,
        calibration_lines=10,
        generator=seeded(),
    )
    assert np.array_equal(mask, again)


def test_uniform_lines_are_evenly_spaced() -> None:
    mask = cartesian_mask(
        (96, 8), pattern="uniform", acceleration=4, calibration_lines=0, generator=seeded(3)
    )
    assert set(np.diff(np.flatnonzero(mask[:, 0]))) == {4}


def test_a_3d_poisson_disc_keeps_whole_readouts_and_the_full_middle() -> None:
    mask = cartesian_mask(
        (32, 40, 7), pattern="poisson", acceleration=4, calibration_lines=8, generator=seeded()
    )
    assert np.array_equal(mask, np.broadcast_to(mask[..., :1], mask.shape))
    assert mask[12:20, 16:24].all()
    density = mask[..., 0].mean()
    assert mask[8:24, 10:30, 0].mean() > 1.3 * density  # denser in the middle


def test_random_masks_draw_from_the_generator() -> None:
    first, second = (
        cartesian_mask(
            (96, 8), pattern="random", acceleration=4, calibration_lines=8, generator=seeded(s)
        )
        for s in (0, 1)
    )
    assert not np.array_equal(first, second)


def test_more_calibration_lines_than_the_acceleration_allows_are_refused() -> None:
    with pytest.raises(InconsistentError, match="fewer calibration lines"):
        cartesian_mask(
            (64, 64), pattern="uniform", acceleration=8, calibration_lines=24, generator=seeded()
        )
    with pytest.raises(InconsistentError, match="at least 1"):
        cartesian_mask(
            (64, 64), pattern="random", acceleration=0.5, calibration_lines=4, generator=seeded()
        )


def test_undersampling_keeps_the_full_scan_as_reference() -> None:
    scan = replace(study(noise=0.01), reference=None)
    mask = cartesian_mask(
        (48, 40), pattern="random", acceleration=2, calibration_lines=12, generator=seeded()
    )
    fewer = undersample(scan, mask)
    assert isinstance(fewer.geometry, Cartesian)
    assert np.array_equal(fewer.geometry.mask, mask)
    assert torch.equal(fewer.measurements != 0, (scan.measurements != 0) & torch.from_numpy(mask))
    truth = head().data
    assert fewer.reference is not None
    assert float((fewer.reference - truth).norm() / truth.norm()) < 0.1
    assert math.isclose(fewer.geometry.acceleration, 2)
    twice = undersample(fewer, mask)
    assert twice.reference is fewer.reference
    with pytest.raises(InconsistentError, match="has shape"):
        undersample(scan, np.ones((40, 48), dtype=bool))
