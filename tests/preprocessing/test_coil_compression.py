"""Coil compression: exact on data of low rank, harmless to white noise, smooth along x."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry.kspace import image_to_kspace, kspace_to_image
from medrecon.preprocessing.coil_compression import (
    Compression,
    geometric_compression,
    svd_compression,
)

Find = Callable[[Tensor, int, int], Compression]
COILS, SHAPE = 6, (3, 10, 16)


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.complex128, generator=generator)


def rank_two_everywhere() -> Tensor:
    """k-space ``(z, coils, y, x)`` whose two virtual coils turn slowly along x."""
    x = torch.linspace(0, 1, SHAPE[2], dtype=torch.float64)
    a, b, c = (torch.linalg.qr(random(COILS, 3)).Q[:, i] for i in range(3))
    first = torch.outer(torch.cos(x), a) + torch.outer(torch.sin(x), c)
    sources = random(2, SHAPE[0], SHAPE[1], SHAPE[2], seed=1)
    images = torch.einsum("xc,zyx->zcyx", first + 0j, sources[0]) + torch.einsum(
        "c,zyx->zcyx", b, sources[1]
    )
    return image_to_kspace(images, (-2, -1))


@pytest.mark.parametrize("axis", [0, 1])
def test_data_of_low_rank_are_kept_whole_by_svd(axis: int) -> None:
    mixing = random(COILS, 2)
    sources = random(2, *SHAPE, seed=1)
    data = torch.einsum("cv,vzyx->czyx", mixing, sources).movedim(0, axis)
    compression = svd_compression(data, 2, axis)
    virtual = compression.kspace(data, axis)
    assert virtual.shape[axis] == 2
    assert math.isclose(compression.energy, 1, abs_tol=1e-12)
    back = torch.einsum("vc,v...->c...", compression.matrix.conj(), virtual.movedim(axis, 0))
    assert torch.allclose(back, data.movedim(axis, 0))


def test_directions_that_turn_along_the_readout_need_the_geometric_kind() -> None:
    data = rank_two_everywhere()
    per_position = geometric_compression(data, 2, 1)
    one = svd_compression(data, 2, 1)
    # the window mixes neighbouring positions, so that a little is lost where directions turn
    assert per_position.energy > 0.995 > 0.98 > one.energy
    assert math.isclose(
        per_position.energy,
        float(per_position.kspace(data, 1).norm() / data.norm()) ** 2,
        rel_tol=1e-9,
    )


def test_neighbouring_positions_are_aligned_as_well_as_unitary_turns_can() -> None:
    matrix = geometric_compression(rank_two_everywhere(), 2, 1).matrix
    steps = (matrix[1:] - matrix[:-1]).flatten(1).norm(dim=1)
    assert float(steps.max()) < 0.15
    product = matrix[1:] @ matrix[:-1].mH  # of the best turn: Hermitian, positive
    assert torch.allclose(product, product.mH, atol=1e-9)
    assert float(torch.linalg.eigvalsh(product).min()) > 0


@pytest.mark.parametrize("find", [svd_compression, geometric_compression])
def test_white_noise_stays_white_and_as_strong(find: Find) -> None:
    compression = find(rank_two_everywhere(), 3, 1)
    rows = compression.matrix @ compression.matrix.mH
    assert torch.allclose(rows, torch.eye(3, dtype=rows.dtype).expand_as(rows), atol=1e-12)
    noise = random(50, COILS, 20, SHAPE[2], seed=2)
    white = compression.kspace(noise, 1).transpose(0, 1).flatten(1)
    covariance = white @ white.mH / white.shape[1]
    assert float((covariance - torch.eye(3)).abs().max()) < 0.03


@pytest.mark.parametrize("find", [svd_compression, geometric_compression])
def test_k_space_and_maps_are_mixed_alike(find: Find) -> None:
    data = rank_two_everywhere()
    compression = find(data, 4, 1)
    images = kspace_to_image(data, (-2, -1))
    mixed = kspace_to_image(compression.kspace(data, 1), (-2, -1))
    assert torch.allclose(compression.images(images, 1), mixed)
    sets = torch.stack([images, 2 * images])
    assert torch.allclose(compression.images(sets, 2)[1], 2 * mixed)


def test_lines_that_were_not_measured_do_not_count() -> None:
    data = rank_two_everywhere()
    mask = torch.zeros(SHAPE[1], 1)
    mask[2:7] = 1
    few = geometric_compression(data * mask, 2, 1)
    cut = geometric_compression(data[:, :, 2:7], 2, 1)
    projections = [c.matrix.mH @ c.matrix for c in (few, cut)]
    assert torch.allclose(projections[0], projections[1], atol=1e-9)


def test_all_coils_kept_lose_nothing() -> None:
    data = rank_two_everywhere().to(torch.complex64)
    for compression in (svd_compression(data, COILS, 1), geometric_compression(data, COILS, 1)):
        mixed = compression.kspace(data, 1)
        assert mixed.dtype == torch.complex64
        assert math.isclose(float(mixed.norm()), float(data.norm()), rel_tol=1e-5)


def test_what_cannot_be_compressed_is_refused() -> None:
    data = rank_two_everywhere()
    with pytest.raises(InconsistentError, match="6 coils to 7"):
        svd_compression(data, 7, 1)
    with pytest.raises(InconsistentError, match="zero or not finite"):
        geometric_compression(0 * data, 2, 1)
    data[0, 0, 0, 0] = math.nan
    with pytest.raises(InconsistentError, match="zero or not finite"):
        svd_compression(data, 2, 1)
    compression = geometric_compression(rank_two_everywhere(), 2, 1)
    with pytest.raises(InconsistentError, match="16 readout positions"):
        compression.kspace(random(3, COILS, 10, 15), 1)
