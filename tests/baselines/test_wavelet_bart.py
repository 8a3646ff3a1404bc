"""Wavelets beside BART's, whose weight is another: one rule turns ours into theirs."""

import shutil
import subprocess

import numpy as np
import pytest
import torch

from medrecon.baselines.regularized import CLOSE, regularized
from medrecon.data_term import DataTerm
from medrecon.grid import Grid
from medrecon.operators.cartesian import CartesianSense
from medrecon.operators.shifted_wavelets import ShiftedWavelets, interleaved_shifts
from medrecon.operators.wavelet import Wavelet
from medrecon.regularizers import Sparsity
from medrecon.simulate_mr import coil_sensitivities
from medrecon.solvers.preconditioner import curvature, diagonal_preconditioner
from tests.baselines.test_grappa import scan

NOISE, SCALE, WEIGHT, LEVELS = 0.02, 2.0, 24.0, 3


def write_cfl(path, array):
    """One array, C order reversed: BART's first axis is our last."""
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{' '.join(map(str, array.shape[::-1]))}\n")
    np.ascontiguousarray(array, dtype=np.complex64).tofile(path.with_suffix(".cfl"))


@pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")
def test_the_minimum_is_barts_with_its_weight(tmp_path):
    """BART minimises ``|A x - y|^2 / 2 + l |W x|_1`` with ``x = s u``: ``l = w / (s precision)``.

    It thresholds all coefficients, of ``dau2``, and moves its grid at random, so what it ends at
    is the mean over shifts; ours sums over four of them.
    """
    image, _ = scan((1, 96, 96))
    maps = coil_sensitivities(Grid.centred((1, 96, 96), (2.0, 2.0, 2.0)), 8).transpose(0, 1)
    maps = maps.contiguous()
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(96, 96, generator=generator) < 0.3
    mask[40:56, 40:56] = True
    A = CartesianSense(maps, mask)
    noise = torch.randn(A.codomain.shape, dtype=torch.complex64, generator=generator)
    y = A(image.to(torch.complex64)) + NOISE * noise * mask
    data = DataTerm(A, y, 2 / NOISE**2, SCALE)
    lam = WEIGHT / (SCALE * data.precision)
    write_cfl(tmp_path / "kspace", y[0, :, None].numpy())
    write_cfl(tmp_path / "maps", maps[0, :, None].numpy())
    command = f"bart pics -i 200 -w 1 -R W:3:0:{lam} --wavelet dau2 kspace maps out"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    theirs = np.fromfile(tmp_path / "out.cfl", dtype=np.complex64).reshape(1, 96, 96) / SCALE

    K = ShiftedWavelets(
        Wavelet(A.domain, (-2, -1), "db2", LEVELS), interleaved_shifts(4, 2, LEVELS)
    )

    def distance(factor):
        steps = regularized(
            data.gram,
            data.rhs,
            Sparsity(K, factor * WEIGHT / 2),
            penalty=10 * WEIGHT,
            preconditioner=diagonal_preconditioner(curvature(data), 10 * WEIGHT, 0),
            iterations=40,
            effort=CLOSE,
        )
        *_, end = steps
        return float((end.value - torch.from_numpy(theirs)).norm() / np.linalg.norm(theirs))

    here = distance(1.0)
    assert here < 0.012
    assert distance(0.6) > here
    assert distance(1.6) > here
