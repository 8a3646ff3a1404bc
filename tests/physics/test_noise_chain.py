"""From quanta to weighted line integrals and on: the noise is what the weights say."""

import math
from pathlib import Path

import pytest
import torch

from medrecon.geometry import FanBeam
from medrecon.geometry.ct import equiangular
from medrecon.grid import Grid
from medrecon.io.plausible import check_ct_study
from medrecon.operators.ct import projector
from medrecon.physics.counts import detect, field_per_view, line_integrals
from medrecon.solvers.cg import conjugate_gradients
from medrecon.study import Study
from tests.physics.test_rotation_centre import BODY

SCAN = FanBeam(
    angles=equiangular(60),
    source_to_axis=500.0,
    source_to_detector=900.0,
    columns=130,
    column_spacing=3.6,
)
GRID = Grid.centred((1, 50, 50), (1.0, 4.0, 4.0))
GAIN, DARK, ELECTRONIC = 3.0, 200.0, 12.0  # units per quantum, units, quanta


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    z, y, x = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float64) for n in GRID.shape), indexing="ij"
    )
    points = torch.stack([(x - 24.5) * 4, (y - 24.5) * 4, 0 * z], -1).numpy()
    return torch.from_numpy(sum(body.at(points) for body in BODY)).float()


def test_chi_squared_per_sample_is_one_from_raw_units_to_the_solution(image: torch.Tensor):
    operator = projector(GRID, SCAN)
    p = operator(image)
    generator = torch.Generator().manual_seed(0)
    bowtie = 4e3 * (1.2 - torch.linspace(-1, 1, 130).square()).expand(1, 1, 130)
    drift = torch.linspace(1, 0.9, 60).view(1, 60, 1)
    quanta = detect(p, drift * bowtie, electronic_noise=ELECTRONIC, generator=generator)
    raw = (GAIN * quanta + DARK).round().to(torch.int16)

    first, last = (
        detect(torch.zeros(200, 1, 130), level * bowtie, generator=generator) for level in (1, 0.9)
    )
    frames = GAIN * torch.cat([first, last]) + DARK
    flat = field_per_view(frames, [0] * 200 + [60] * 200, 60).movedim(0, 1)
    dark = DARK + GAIN * ELECTRONIC * torch.randn(200, 130, generator=generator)
    scan = line_integrals(raw, flat, dark.mean(0), gain=GAIN, electronic_noise=GAIN * ELECTRONIC)
    assert scan.repaired == 0
    study = Study(measurements=scan.values, geometry=SCAN, grid=GRID, weights=scan.weights)
    check_ct_study(study, Path("raw.h5"))

    chi = ((scan.values - p).square() * scan.weights).mean()
    samples = p.numel()
    assert float(chi) == pytest.approx(1, abs=4 * math.sqrt(2 / samples))

    # Weighted least squares spends one degree of freedom per voxel that the scan determines.
    weights = scan.weights
    solution = conjugate_gradients(
        lambda v: operator.adjoint(weights * operator(v)),
        operator.adjoint(weights * scan.values),
        max_iterations=300,
    ).value
    misfit = ((scan.values - operator(solution)).square() * weights).sum()
    freedom = samples - GRID.shape[1] * GRID.shape[2]
    assert float(misfit) / freedom == pytest.approx(1, abs=0.06)
