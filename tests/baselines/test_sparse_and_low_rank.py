"""Wavelets, total variation and low rank against dense minima found another way."""

import pytest
import torch

from medrecon.arrays import Space
from medrecon.baselines import cgls, l1_wavelet, low_rank, total_variation
from medrecon.baselines.regularized import Effort
from medrecon.data_term import DataTerm
from medrecon.errors import InconsistentError
from medrecon.operators.difference import Difference
from medrecon.operators.patches import SeriesBlocks
from medrecon.operators.shifted_wavelets import ShiftedWavelets, interleaved_shifts
from medrecon.operators.wavelet import Wavelet
from medrecon.regularizers import NuclearNorm, Sparsity, TotalVariation
from tests.contracts import distance, random
from tests.oracles import dense
from tests.sampling.dense import random_problem

FAR = Effort(converged=1e-10, inner_iterations=60, inner_tolerance=1e-8)


def last(steps):
    *_, end = steps
    return end


def minimum(data, regularizer, shape, iterations=3000):
    """The minimum by accelerated gradients on the dual, with dense matrices."""
    K = dense(regularizer.operator)
    basis = torch.eye(K.shape[1], dtype=K.dtype)
    inverse = torch.linalg.inv(torch.stack([data.gram(e.view(shape)).flatten() for e in basis]).T)
    step = 1 / torch.linalg.matrix_norm(K @ inverse @ K.mH, 2)
    p = q = torch.zeros(K.shape[0], dtype=K.dtype)
    t = 1.0
    for _ in range(iterations):
        v = q + step * (K @ (inverse @ (data.rhs.flatten() - K.mH @ q)))
        scaled = (v / step).view(regularizer.operator.codomain.shape)
        new = v - step * regularizer.prox(scaled, float(1 / step)).flatten()
        if float(((q - new).conj() * (new - p)).real.sum()) > 0:
            t = 1.0
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        p, q, t = new, new + (t - 1) / following * (new - p), following
    return (inverse @ (data.rhs.flatten() - K.mH @ p)).view(shape)


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("shifts", [1, 4])
def test_wavelets_end_at_the_dense_minimum(is_complex, shifts):
    A, y, weights = random_problem(slices=1, size=(8, 5), rows=44, is_complex=is_complex)
    data = DataTerm(A, y, weights)
    W = Wavelet(A.domain, (-2, -1), "haar", 2)
    K = ShiftedWavelets(W, interleaved_shifts(shifts, 2, 2))
    exact = minimum(data, Sparsity(K, 3 / shifts**0.5, K.details), A.domain.shape)
    steps = l1_wavelet(
        data, weight=3.0, iterations=1000, wavelet="haar", levels=2, shifts=shifts, effort=FAR
    )
    assert distance(last(steps).value, exact) < 1e-6
    usual = l1_wavelet(data, weight=3.0, iterations=100, wavelet="haar", levels=2, shifts=shifts)
    assert distance(last(usual).value, exact) < 0.02


def test_total_variation_of_complex_images_ends_at_the_dense_minimum():
    A, y, weights = random_problem(slices=2, size=(4, 4), rows=18, is_complex=True)
    data = DataTerm(A, y, weights)
    spacing = (2.0, 1.0, 1.5)
    tv = TotalVariation(Difference(A.domain, spacing, (0, 1, 2)), 2.0)
    exact = minimum(data, tv, A.domain.shape)
    steps = total_variation(data, spacing, weight=2.0, iterations=4000, effort=FAR)
    assert distance(last(steps).value, exact) < 1e-6


def test_nothing_depends_on_the_phase_of_the_whole_image():
    A, y, weights = random_problem(slices=1, size=(8, 8), rows=30, is_complex=True)
    turned = torch.exp(torch.tensor(0.7j))
    for method in (
        lambda data: l1_wavelet(data, weight=2.0, iterations=50, wavelet="haar"),
        lambda data: total_variation(data, (1.0, 1.0, 1.0), weight=2.0, iterations=50),
    ):
        here = last(method(DataTerm(A, y, weights))).value
        there = last(method(DataTerm(A, turned * y, weights))).value
        assert distance(there, turned * here) < 1e-6


def test_the_l1_prox_shrinks_magnitudes_and_leaves_smooth_coefficients():
    K = Wavelet(Space((8, 8), complex=True), (-2, -1), "haar", 1)
    prox = Sparsity(K, 0.5, K.details).prox
    v = 2 * random(K.codomain)
    d = prox(v, 2.0)
    assert torch.equal(d[~K.details], v[~K.details])
    expected = (v.abs() - 1).clamp_min(0)
    assert torch.allclose(d.abs()[K.details], expected[K.details])
    kept = K.details & (expected > 0)
    assert torch.allclose(d.angle()[kept], v.angle()[kept])


@pytest.mark.parametrize("shape", [(3, 9), (9, 3), (4, 4)])
def test_the_nuclear_prox_shrinks_singular_values(shape):
    K = SeriesBlocks(Space((shape[0], 1, 1, shape[1]), complex=True), (1, 1, shape[1]), 1)
    norm = NuclearNorm(K, 0.7)
    v = random(Space(shape, complex=True))
    U, s, Vh = torch.linalg.svd(v, full_matrices=False)
    shrunk = (U * (s - 1.4).clamp_min(0)) @ Vh
    assert distance(norm.prox(v[None, None], 2.0)[0, 0], shrunk) < 1e-10
    x = K.adjoint(v[None, None])
    assert norm.value(x) == pytest.approx(0.7 * float(s.sum()))


def frames(count=4, *, rows, size=(6, 6), rank=1, noise=0.05):
    """A series of low rank measured by another random matrix in every frame."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(rank, *size, generator=generator, dtype=torch.complex128)
    courses = torch.randn(count, rank, generator=generator, dtype=torch.complex128)
    truth = torch.tensordot(courses, images, 1)[:, None]
    data = []
    for index in range(count):
        A, _, _ = random_problem(slices=1, size=size, rows=rows, is_complex=True, seed=10 + index)
        y = A(truth[index])
        n = noise * torch.randn(y.shape, generator=generator, dtype=y.dtype)
        data.append(DataTerm(A, y + n, 2 / noise**2))
    return data, truth


def test_low_rank_ends_at_the_minimum_of_one_block():
    data, _ = frames(rows=40)
    value = last(low_rank(data, weight=4.0, iterations=3000, block=6, effort=FAR)).value
    u = torch.zeros_like(value)
    step = 1 / max(
        float(torch.linalg.matrix_norm(dense(d.operator), 2)) ** 2 * d.precision for d in data
    )
    z, t = u, 1.0
    for _ in range(2000):  # FISTA; two half-shifted partitions of one block are the same matrix
        g = torch.stack([d.gram(f) - d.rhs for d, f in zip(data, z, strict=True)])
        U, s, Vh = torch.linalg.svd((z - step * g).flatten(1), full_matrices=False)
        new = ((U * (s - step * 4.0).clamp_min(0)) @ Vh).view_as(u)
        if float(((z - new).conj() * (new - u)).real.sum()) > 0:
            t = 1.0
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        u, z, t = new, new + (t - 1) / following * (new - u), following
    assert distance(value, u) < 1e-5


def test_low_rank_fills_what_single_frames_cannot_tell():
    data, truth = frames(rows=22, count=10)
    effort = Effort(inner_iterations=30, inner_tolerance=5e-4)
    series = last(low_rank(data, weight=10.0, iterations=100, block=6, effort=effort)).value
    alone = torch.stack([last(cgls(d, iterations=200, weight=1e-3)).value for d in data])
    assert distance(series, truth) < 0.05
    assert distance(alone, truth) > 0.5


def test_frames_of_different_images_are_refused():
    data, _ = frames(rows=12)
    other, _ = frames(rows=12, size=(6, 5))
    with pytest.raises(InconsistentError, match="Frame 1"):
        low_rank([data[0], other[1]], weight=1.0, iterations=1)
    with pytest.raises(InconsistentError, match="at least one"):
        low_rank([], weight=1.0, iterations=1)
