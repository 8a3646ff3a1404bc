"""Trajectories, and those of other libraries, against the libraries themselves."""

from __future__ import annotations

import math
import shutil
import subprocess

import finufft
import numpy as np
import pytest
import sigpy as sp

from medrecon.errors import InconsistentError
from medrecon.geometry import NonCartesian
from medrecon.geometry.trajectory import Library, from_library, to_library
from medrecon.trajectories import GOLDEN_ANGLE, koosh, radial, spiral, stack

LIBRARIES: tuple[Library, ...] = (
    "bart",
    "sigpy",
    "mrpro",
    "mri_nufft",
    "finufft",
    "torchkbnufft",
)
SHAPES = ((6, 8), (7, 5), (4, 5, 6))


def trajectory_in(shape, shots=3, samples=4):
    k = np.random.default_rng(0).uniform(-0.5, 0.5, (shots, samples, len(shape)))
    return k * np.array(shape)


def image_of(shape):
    rng = np.random.default_rng(1)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def direct(image, k):
    """The convention, written out: cycles per field of view, centre at n // 2, orthonormal."""
    grids = np.meshgrid(*((np.arange(n) - n // 2) / n for n in image.shape), indexing="ij")
    phase = sum(k[..., a, *[None] * image.ndim] * g for a, g in enumerate(grids))
    axes = tuple(range(2, 2 + image.ndim))
    return (np.exp(-2j * np.pi * phase) * image).sum(axes) / math.sqrt(image.size)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_there_and_back_is_the_same_trajectory(library, shape):
    k = trajectory_in(shape)
    back = from_library(to_library(k, library, shape), library, shape, shots=3)
    np.testing.assert_allclose(back, k, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
def test_sigpy_measures_the_same_along_its_trajectory(shape):
    k, image = trajectory_in(shape), image_of(shape)
    theirs = sp.nufft(image, to_library(k, "sigpy", shape), oversamp=2, width=8)
    assert np.linalg.norm(theirs - direct(image, k)) < 1e-5 * np.linalg.norm(theirs)


@pytest.mark.parametrize("shape", SHAPES)
def test_finufft_measures_the_same_along_its_trajectory(shape):
    k, image = trajectory_in(shape), image_of(shape)
    call = finufft.nufft2d2 if len(shape) == 2 else finufft.nufft3d2
    theirs = call(*to_library(k, "finufft", shape), image, isign=-1, eps=1e-12)
    expected = direct(image, k).ravel() * math.sqrt(image.size)
    np.testing.assert_allclose(theirs, expected, rtol=0, atol=1e-9)


@pytest.mark.skipif(shutil.which("bart") is None, reason="bart is not installed")
@pytest.mark.parametrize("shape", [(8, 6), (16, 12, 10)])
def test_bart_measures_the_same_along_its_trajectory(shape, tmp_path):
    # it cuts off kernels at the edge of k-space
    k, image = 0.6 * trajectory_in(shape, shots=5, samples=9), image_of(shape)

    def write(name, array):
        dims = " ".join(map(str, [*array.shape, *[1] * (16 - array.ndim)]))
        (tmp_path / f"{name}.hdr").write_text(f"# Dimensions\n{dims}\n")
        array.astype(np.complex64).ravel("F").tofile(tmp_path / f"{name}.cfl")

    write("k", to_library(k, "bart", shape))
    write("x", image.T)  # axes x, y, z
    subprocess.run(["bart", "nufft", "k", "x", "y"], cwd=tmp_path, check=True, capture_output=True)
    theirs = np.fromfile(tmp_path / "y.cfl", np.complex64).reshape(k.shape[:2])
    expected = direct(image, k)
    # their kernel's accuracy (1e-3), not a matter of convention (then it would be above 1)
    assert np.linalg.norm(theirs - expected) < 5e-3 * np.linalg.norm(expected)


def test_an_unknown_library_or_shape_is_named():
    with pytest.raises(InconsistentError, match="known are bart, sigpy"):
        from_library(np.zeros((1, 2, 2)), "gadget", (4, 4))
    with pytest.raises(InconsistentError, match=r"shape \(shots, samples, 2\), got \(3, 4\)"):
        from_library(np.zeros((3, 4)), "sigpy", (4, 4))
    with pytest.raises(InconsistentError, match="with 3 shots"):
        from_library(np.zeros((2, 4)), "finufft", (4, 4), shots=3)


def test_radial_spokes_pass_the_centre_and_reach_the_edge():
    k = radial((6, 8), 5, 16).trajectory
    np.testing.assert_array_equal(k[:, 8], 0)
    np.testing.assert_allclose(k[0, 0], [0, -4], atol=1e-12)
    angles = np.arctan2(k[:, -1, 0] / 6, k[:, -1, 1] / 8)
    np.testing.assert_allclose(np.diff(angles), math.pi / 5)


def test_golden_spokes_are_spread_evenly_whatever_their_number():
    assert math.degrees(GOLDEN_ANGLE) == pytest.approx(111.246, abs=1e-3)
    for spokes in (8, 13, 21):
        k = radial((8, 8), spokes, 4, golden=True).trajectory
        angles = np.sort(np.mod(np.arctan2(k[:, 0, 0], k[:, 0, 1]), math.pi))
        gaps = np.diff(np.append(angles, angles[0] + math.pi))
        assert gaps.max() / gaps.min() < 2.7  # at most three gaps, in golden ratios


def test_a_spiral_leaves_no_gap_and_keeps_its_speed():
    geometry = spiral((32, 32), 4, 600, duration=6e-3)
    k = geometry.trajectory
    assert geometry.reach == pytest.approx((16, 16), rel=1e-2)
    winding = np.linalg.norm(k[0], axis=-1)
    angle = np.unwrap(np.arctan2(k[0, 1:, 0], k[0, 1:, 1]))
    turns = (angle[-1] - angle[0]) / (2 * math.pi)
    assert (winding[-1] - winding[1]) / turns / 4 == pytest.approx(1, rel=0.02)
    speed = np.linalg.norm(np.diff(k[0], axis=0), axis=-1)[100:]
    assert speed.max() / speed.min() < 1.05
    assert geometry.times is not None
    assert geometry.times[-1] == pytest.approx(6e-3 * 599 / 600)


def test_koosh_spokes_cover_the_half_sphere_evenly():
    k = koosh((8, 8, 8), 2000, 2).trajectory[:, 0]
    unit = k / np.linalg.norm(k, axis=-1, keepdims=True)
    np.testing.assert_allclose(np.cov(unit.T, bias=True) + np.outer(unit.mean(0), unit.mean(0)),
                               np.eye(3) / 3, atol=5e-3)  # fmt: skip
    with pytest.raises(InconsistentError, match="spokes above 0"):
        koosh((4, 4, 4), 0, 2)


def test_a_stack_encodes_z_by_partitions():
    flat = radial((6, 6), 4, 8)
    stars = stack(flat, np.array([True, False, True]))
    assert (flat.is_3d, flat.coil_axis) == (False, 1)
    assert (stars.is_3d, stars.is_stack, stars.coil_axis) == (True, True, 0)
    with pytest.raises(InconsistentError, match="in the plane"):
        stack(koosh((4, 4, 4), 3, 4), np.array([True]))


@pytest.mark.parametrize(
    ("trajectory", "message"),
    [
        (np.zeros((3, 4)), "shape"),
        (np.zeros((3, 0, 2)), "shape"),
        (np.full((1, 2, 2), np.nan), "shot 0, sample 0"),
    ],
)
def test_a_trajectory_that_is_none_is_refused(trajectory, message):
    with pytest.raises(InconsistentError, match=message):
        NonCartesian(trajectory=trajectory)
