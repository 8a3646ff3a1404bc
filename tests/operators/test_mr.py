"""MR operators against the shared battery, a direct DFT, sigpy and each other."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import sigpy as sp
import torch

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.geometry.kspace import crop_or_pad, image_to_kspace, kspace_to_image
from medrecon.operators.base import LinearOperator
from medrecon.operators.cartesian import CartesianSense
from medrecon.operators.coils import Coils
from medrecon.operators.fourier import Fourier
from medrecon.operators.mask import Mask
from tests.contracts import CHECKS, Check, distance, name, random

LAYOUTS = {
    "2d even": ((3, 2, 8, 6), 2),
    "2d odd": ((2, 3, 7, 5), 2),
    "2d mixed": ((2, 3, 6, 9), 2),
    "3d even": ((2, 4, 6, 8), 3),
    "3d odd": ((3, 5, 4, 7), 3),
    "slices even": ((3, 2, 8, 6), 2),
    "slices odd": ((4, 3, 7, 5), 2),
}
PATTERNS = ("scattered", "lines", "full")


def pattern(kind: str, shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(shape, generator=generator) < 0.5
    if kind == "lines":
        mask = mask[..., :1].expand(shape).clone()
    return mask | torch.tensor(kind == "full")


def fused(layout: str, kind: str = "scattered") -> CartesianSense:
    """With a pattern of its own in every slice where the layout's name says so."""
    shape, encoded = LAYOUTS[layout]
    sampled = shape[-encoded:] if "slices" not in layout else (shape[0], *shape[-encoded:])
    return CartesianSense(random(Space(shape, complex=True)), pattern(kind, sampled), encoded)


def composed(operator: CartesianSense) -> LinearOperator:
    coils = Coils(operator.maps, axis=operator.blocks)
    fourier = Fourier(coils.codomain, axes=operator.encoded)
    mask = operator.mask
    if mask.ndim > operator.encoded:
        mask = mask[:, None].expand(operator.maps.shape)
    return Mask(fourier.codomain, mask) @ fourier @ coils


def dft_matrix(n: int) -> torch.Tensor:
    """Centred orthonormal DFT straight from its definition."""
    index = torch.arange(n, dtype=torch.float64) - n // 2
    return torch.exp(-2j * math.pi * torch.outer(index, index) / n) / math.sqrt(n)


def dense(operator: LinearOperator) -> torch.Tensor:
    basis = torch.eye(operator.domain.size, dtype=operator.domain.dtype(torch.float64))
    return operator(basis.reshape(-1, *operator.domain.shape)).reshape(len(basis), -1).T


OPERATORS: dict[str, LinearOperator] = {
    "fourier 2 odd": Fourier(Space((2, 5, 7), complex=True), axes=2),
    "fourier 3 even": Fourier(Space((4, 6, 2), complex=True), axes=3),
    "mask": Mask(Space((2, 5, 6), complex=True), pattern("scattered", (5, 6))),
    "coils 2d": Coils(random(Space((2, 3, 4, 5), complex=True)), axis=1),
    "coils 3d": Coils(random(Space((3, 2, 4, 5), complex=True)), axis=0),
    "sense composed": composed(fused("2d odd")),
    **{f"sense {layout} {kind}": fused(layout, kind) for layout in LAYOUTS for kind in PATTERNS},
}


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())
def test_contract(operator: LinearOperator, check: Check) -> None:
    check(operator)


@pytest.mark.parametrize("shape", [(6, 8), (5, 7), (6, 5), (1, 4)])
def test_fourier_equals_the_direct_dft(shape: tuple[int, int]) -> None:
    x = random(Space(shape, complex=True))
    expected = dft_matrix(shape[0]) @ x @ dft_matrix(shape[1]).T
    assert distance(Fourier(Space(shape, complex=True), axes=2)(x), expected) < 1e-14


@pytest.mark.parametrize("shape", [(64, 48), (65, 47)])
def test_the_convention_is_that_of_sigpy(shape: tuple[int, int]) -> None:
    x = random(Space((3, *shape), complex=True))
    ours = image_to_kspace(x, (-2, -1))
    assert np.allclose(ours, sp.fft(x.numpy(), axes=(-2, -1)), rtol=0, atol=1e-12)
    assert np.allclose(kspace_to_image(ours, (-2, -1)), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(64, 48), (65, 47), (64, 47)])
def test_fused_sense_needs_no_shift_to_keep_the_convention(shape: tuple[int, int]) -> None:
    maps = random(Space((1, 2, *shape), complex=True))
    x = random(Space((1, *shape), complex=True), seed=1)
    y = CartesianSense(maps, torch.ones(shape, dtype=torch.bool))(x)
    expected = sp.fft((maps * x[:, None]).numpy(), axes=(-2, -1))
    assert np.allclose(y, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", PATTERNS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_fused_sense_equals_mask_fourier_coils(layout: str, kind: str) -> None:
    operator = fused(layout, kind)
    parts = composed(operator)
    x = random(operator.domain, 2, seed=2)
    y = random(operator.codomain, 2, seed=3)
    assert operator.domain == parts.domain
    assert operator.codomain == parts.codomain
    assert operator.blocks == parts.blocks
    assert distance(operator(x), parts(x)) < 1e-13
    assert distance(operator.adjoint(y), parts.adjoint(y)) < 1e-13
    assert distance(operator.gram(x), parts.adjoint(parts(x))) < 1e-13


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gram_is_the_dense_normal_matrix(layout: str) -> None:
    operator = fused(layout)
    A = dense(operator)
    x = random(operator.domain, seed=4)
    assert distance(operator.gram(x).flatten(), A.mH @ (A @ x.flatten())) < 1e-13


@pytest.mark.parametrize("layout", ["2d odd", "3d even"])
def test_gram_is_differentiable(layout: str) -> None:
    operator = fused(layout, "lines")
    x = random(operator.domain).requires_grad_()
    g = random(operator.domain, seed=5)
    (gradient,) = torch.autograd.grad((g.conj() * operator.gram(x)).sum().real, x)
    assert distance(gradient, operator.gram(g)) < 1e-12


def test_the_device_path_gives_what_the_cpu_path_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    for layout in LAYOUTS:
        for kind in PATTERNS:
            operator = fused(layout, kind)
            twin = pickle.loads(pickle.dumps(operator))
            x = random(operator.domain, 2, seed=6)
            y = random(operator.codomain, 2, seed=7)
            expected = operator(x), operator.adjoint(y), operator.gram(x)
            with monkeypatch.context() as patch:
                patch.setattr("medrecon.operators.cartesian._on_cpu", lambda _: False)
                results = twin(x), twin.adjoint(y), twin.gram(x)
            for one, other in zip(expected, results, strict=True):
                assert distance(one, other) < 1e-13


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    threads = torch.get_num_threads()
    for layout in ("2d even", "3d odd"):
        operator = fused(layout)
        x = random(operator.domain, 2, precision=torch.float32)
        try:
            torch.set_num_threads(1)
            one = operator(x), operator.gram(x), operator.adjoint(operator(x))
            torch.set_num_threads(3)
            three = operator(x), operator.gram(x), operator.adjoint(operator(x))
        finally:
            torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def test_maps_that_do_not_fit_the_mask_are_refused() -> None:
    maps = random(Space((2, 3, 4, 6), complex=True))
    for mask in (torch.ones(4, 5), torch.ones(6, 4), torch.ones(3, 4, 7), torch.ones(6)):
        with pytest.raises(InconsistentError):
            CartesianSense(maps, mask.bool())
    with pytest.raises(InconsistentError, match="boolean"):
        CartesianSense(maps, torch.ones(4, 6))
    with pytest.raises(InconsistentError, match="complex"):
        CartesianSense(maps.real, torch.ones(4, 6).bool())
    with pytest.raises(InconsistentError, match="fits"):
        Mask(Space((2, 3), complex=True), torch.ones(2, 4).bool())
    with pytest.raises(InconsistentError, match="complex space"):
        Fourier(Space((2, 3)), axes=2)


@pytest.mark.parametrize("size", range(1, 10))
@pytest.mark.parametrize("other", range(1, 10))
def test_cropping_and_padding_keep_the_centre(size: int, other: int) -> None:
    x = torch.zeros(2, size)
    x[:, size // 2] = 1
    y = crop_or_pad(x, other, 1)
    assert y.shape == (2, other)
    assert torch.equal(torch.nonzero(y[0]).flatten(), torch.tensor([other // 2]))
    assert torch.equal(crop_or_pad(x, other, -1), y)
