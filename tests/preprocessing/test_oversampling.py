from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medrecon.errors import InconsistentError
from medrecon.preprocessing.oversampling import kept_samples, kept_size, remove_oversampling


def centred_dft(n: int) -> torch.Tensor:
    """Matrix of the centred orthonormal transform, from its definition."""
    k = torch.arange(n, dtype=torch.float64) - n // 2
    matrix: torch.Tensor = torch.exp(-2j * torch.pi * torch.outer(k, k) / n) / n**0.5
    return matrix


def random_kspace(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))


@given(size=st.integers(1, 12), data=st.data(), axis=st.integers(-3, 2))
def test_what_is_left_is_the_k_space_of_the_cropped_image(
    size: int, data: st.DataObject, axis: int
) -> None:
    kept = data.draw(st.integers(1, size))
    kspace = random_kspace(*(size if i == axis % 3 else 2 for i in range(3)))
    image = centred_dft(size).mH @ kspace.movedim(axis, 0).flatten(1)
    start = size // 2 - kept // 2
    expected = centred_dft(kept) @ image[start : start + kept]
    found = remove_oversampling(kspace, kept, axis).movedim(axis, 0).flatten(1)
    assert torch.allclose(found, expected, atol=1e-12)


def test_white_noise_stays_white_with_the_same_variance() -> None:
    noise = random_kspace(4000, 16)
    left = remove_oversampling(noise, 8)
    covariance = left.mT @ left.conj() / len(left)
    assert float((covariance - torch.eye(8)).abs().max()) < 0.08


def test_nothing_is_done_where_nothing_is_oversampled() -> None:
    kspace = random_kspace(2, 6)
    assert remove_oversampling(kspace, 6) is kspace
    with pytest.raises(InconsistentError, match="cannot be cropped to 7"):
        remove_oversampling(kspace, 7)


@pytest.mark.parametrize(
    ("size", "fov", "wanted", "kept"),
    [(640, 480.0, 240.0, 320), (320, 240.0, 300.0, 320), (9, 3.0, 2.0, 6), (4, 4.0, 0.1, 1)],
)
def test_the_size_follows_the_field_of_view(
    size: int, fov: float, wanted: float, kept: int
) -> None:
    assert kept_size(size, fov, wanted) == kept


@given(size=st.integers(2, 40), data=st.data())
def test_whole_readouts_stay_whole_and_incomplete_ones_keep_their_share(
    size: int, data: st.DataObject
) -> None:
    kept = data.draw(st.integers(1, size))
    assert (kept_samples(np.ones((3, size), dtype=np.int32), kept) == 1).all()
    start = data.draw(st.integers(0, size - 1))
    samples = (np.arange(size) >= start).astype(np.int32)
    share = float(kept_samples(samples, kept).mean())
    assert abs(share - (size - start) / size) <= 1 / kept + 1 / size
