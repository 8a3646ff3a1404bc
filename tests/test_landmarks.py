"""From MRD readouts to DICOM and NIfTI: points stay where they were in the patient.

The scans are of points: the signal of a point at ``r`` in a slice whose middle is ``p`` is
``exp(-2 pi i k.(r - p))`` with ``k`` in cycles per mm along the slice's directions. No Fourier
transform and no grid of ours takes part; where a point must come out is known beforehand.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ismrmrd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ismrmrd import xsd
from numpy.typing import NDArray

from medrecon.geometry.kspace import kspace_to_image
from medrecon.io.dicom_write import DerivedSeries, write_dicom_series
from medrecon.io.ismrmrd import read_ismrmrd
from medrecon.io.nifti import write_nifti
from medrecon.study import Study
from medrecon.volume import Unit, Volume
from tests.io.mrd_files import limit, space, write_file

Vector = NDArray[np.float64]

TOLERANCE_MM = 1e-3
POINTS = 5
LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0])
needs_dcm2niix = pytest.mark.skipif(
    shutil.which("dcm2niix") is None, reason="dcm2niix is not installed (Debian: dcm2niix)"
)


@dataclass
class PointScan:
    """An oblique acquisition of points of brightness 1 to ``POINTS``."""

    seed: int
    shape: tuple[int, int, int]
    is_3d: bool
    oversampling: int
    slice_dir: Vector = field(init=False)
    phase_dir: Vector = field(init=False)
    read_dir: Vector = field(init=False)
    voxel: Vector = field(init=False)  # along slice (distance), phase and read direction, mm
    thickness: float = field(init=False)
    middle: Vector = field(init=False)
    steps: NDArray[np.intp] = field(init=False)
    arrival: NDArray[np.intp] = field(init=False)
    coils: NDArray[Any] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        # of either handedness: slices are counted along both sides of their plane
        self.slice_dir, self.phase_dir, self.read_dir = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        self.voxel = rng.uniform([2.0, 0.7, 0.5], [4.0, 1.6, 2.1])
        self.thickness = float(self.voxel[0] * rng.uniform(0.6, 1.0))
        self.middle = rng.uniform(-80, 80, 3)
        # whole voxels from the middle of slice or slab: every point lies on the measured grid
        z, y, x = self.shape
        cells = rng.choice(z * y * x, POINTS, replace=False)
        index = np.stack(np.unravel_index(cells, self.shape), axis=1)
        self.steps = index - np.array([z // 2, y // 2, x // 2])
        self.arrival = rng.permutation(z)
        self.coils = rng.standard_normal((2, 2)) @ [1, 1j]

    @property
    def points(self) -> Vector:
        """LPS mm, in the order of brightness."""
        directions = np.stack([self.slice_dir, self.phase_dir, self.read_dir])
        found: Vector = self.middle + (self.steps * self.voxel) @ directions
        return found

    def slice_middle(self, z: int) -> Vector:
        offset = (z - self.shape[0] // 2) * self.voxel[0]
        found: Vector = self.middle + offset * self.slice_dir
        return found

    def write(self, path: Path) -> Path:
        return write_file(path, self._header(), self._acquisitions())

    def _header(self) -> Any:
        z, y, x = self.shape
        dz, dy, dx = self.voxel.tolist()
        depth, fov_z = (z, z * dz) if self.is_3d else (1, self.thickness)
        wide = x * self.oversampling
        return xsd.ismrmrdHeader(
            experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=1),
            encoding=[
                xsd.encodingType(
                    encodedSpace=space((depth, y, wide), (fov_z, y * dy, wide * dx)),
                    reconSpace=space((depth, y, x), (fov_z, y * dy, x * dx)),
                    encodingLimits=xsd.encodingLimitsType(
                        kspace_encoding_step_1=limit(y - 1, y // 2),
                        kspace_encoding_step_2=limit(depth - 1, depth // 2),
                        slice=limit(0 if self.is_3d else z - 1, 0),
                    ),
                    trajectory=xsd.trajectoryType.CARTESIAN,
                )
            ],
        )

    def _acquisitions(self) -> list[Any]:
        found = []
        for counter, z in enumerate(self.arrival.tolist()):
            for line in range(self.shape[1]):
                samples = self._partition(z, line) if self.is_3d else self._slice(z, line)
                data = np.outer(self.coils, samples).astype(np.complex64)
                acquisition = ismrmrd.Acquisition.from_array(data)
                acquisition.idx.kspace_encode_step_1 = line
                if self.is_3d:
                    acquisition.idx.kspace_encode_step_2 = z
                else:
                    acquisition.idx.slice = counter  # counted as it arrives, not as it lies
                acquisition.center_sample = data.shape[1] // 2
                acquisition.position[:] = self.middle if self.is_3d else self.slice_middle(z)
                acquisition.slice_dir[:] = self.slice_dir
                acquisition.phase_dir[:] = self.phase_dir
                acquisition.read_dir[:] = self.read_dir
                found.append(acquisition)
        return found

    def _wave_numbers(self, line: int) -> Vector:
        """Wave vectors of one readout in cycles per mm, ``(samples, 3)``."""
        _, y, x = self.shape
        wide = x * self.oversampling
        along = (np.arange(wide) - wide // 2) / (wide * self.voxel[2])
        across = (line - y // 2) / (y * self.voxel[1])
        k: Vector = np.outer(along, self.read_dir) + across * self.phase_dir
        return k

    def _slice(self, z: int, line: int) -> NDArray[Any]:
        """Signal of the points in one excited slice."""
        middle = self.slice_middle(z)
        inside = np.abs((self.points - middle) @ self.slice_dir) < self.thickness / 2
        return self._signal(self._wave_numbers(line), middle, inside)

    def _partition(self, z: int, line: int) -> NDArray[Any]:
        """Signal of all points, encoded along the slab's normal too."""
        depth = self.shape[0]
        k = self._wave_numbers(line)
        k = k + (z - depth // 2) / (depth * self.voxel[0]) * self.slice_dir
        return self._signal(k, self.middle, np.ones(POINTS, dtype=bool))

    def _signal(self, k: Vector, middle: Vector, inside: NDArray[np.bool_]) -> NDArray[Any]:
        brightness = np.arange(1, POINTS + 1)
        waves = np.exp(-2j * np.pi * k @ (self.points - middle).T)
        signal: NDArray[Any] = waves[:, inside] @ brightness[inside]
        return signal


def reconstructed(path: Path) -> tuple[Study, Volume]:
    """Inverse Fourier transform and root sum of squares; nothing else."""
    (study,) = read_ismrmrd(path)
    assert study.grid is not None
    is_3d = study.geometry.is_3d  # type: ignore[union-attr]
    images = kspace_to_image(study.measurements, (-3, -2, -1) if is_3d else (-2, -1))
    magnitude = images.abs().square().sum(0 if is_3d else 1).sqrt()
    return study, Volume(magnitude.float(), study.grid, Unit.ARBITRARY)


def bright_voxels(voxels: NDArray[Any]) -> NDArray[np.intp]:
    """Indices of the points, from dark to bright; nothing else may be seen."""
    values = voxels / voxels.max() * POINTS
    index = np.argwhere(values > 0.5)
    assert len(index) == POINTS
    assert np.abs(values[values <= 0.5]).max() < 1e-3 * POINTS
    order = np.argsort(values[tuple(index.T)])
    assert np.allclose(values[tuple(index[order].T)], np.arange(1, POINTS + 1), atol=0.01)
    found: NDArray[np.intp] = index[order]
    return found


def in_nifti(path: Path) -> Vector:
    """LPS positions of the bright voxels of a NIfTI file."""
    image = nib.load(path)
    index = bright_voxels(image.get_fdata())
    ras = index @ image.affine[:3, :3].T + image.affine[:3, 3]
    lps: Vector = ras @ LPS_OF_RAS
    return lps


def in_dicom(files: list[Path]) -> Vector:
    """LPS positions of the bright voxels of a DICOM series, by PS3.3 C.7.6.2.1.1."""
    slices = [pydicom.dcmread(file) for file in files]
    found = []
    for z, y, x in bright_voxels(np.stack([s.pixel_array for s in slices]).astype(float)):
        ds = slices[z]
        cosines = np.array(ds.ImageOrientationPatient, dtype=float)
        rows, columns = (float(d) for d in ds.PixelSpacing)  # distance of rows, of columns
        origin = np.array(ds.ImagePositionPatient, dtype=float)
        found.append(origin + x * columns * cosines[:3] + y * rows * cosines[3:])
    return np.array(found)


def write_both(scan: PointScan, folder: Path) -> list[Path]:
    study, volume = reconstructed(scan.write(folder / "scan.h5"))
    write_nifti(volume, folder / "ours.nii")
    series = DerivedSeries(modality="MR", description="medrecon RSS", uses_prior=False)
    return write_dicom_series(volume, folder / "dicom", series=series, identity=study.identity)


scans = st.builds(
    PointScan,
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(2, 4), st.integers(4, 7), st.integers(4, 7)),
    is_3d=st.booleans(),
    oversampling=st.sampled_from([1, 2]),
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(scan=scans)
def test_points_lie_in_dicom_and_nifti_where_they_were_in_the_patient(scan: PointScan) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = write_both(scan, Path(folder))
        for found in (in_nifti(Path(folder) / "ours.nii"), in_dicom(files)):
            assert np.abs(found - scan.points).max() < TOLERANCE_MM


@needs_dcm2niix
@pytest.mark.parametrize("is_3d", [False, True], ids=["slices", "slab"])
@pytest.mark.parametrize(("seed", "shape"), [(1, (4, 9, 12)), (2, (5, 8, 11)), (3, (1, 8, 9))])
def test_dcm2niix_finds_points_where_they_were_in_the_patient(
    tmp_path: Path, seed: int, shape: tuple[int, int, int], is_3d: bool
) -> None:
    if is_3d and shape[0] == 1:
        shape = (7, 6, 6)
    scan = PointScan(seed=seed, shape=shape, is_3d=is_3d, oversampling=2)
    write_both(scan, tmp_path)
    out = tmp_path / "converted"
    out.mkdir()
    command = ["dcm2niix", "-o", str(out), "-f", "x", "-z", "n", "-b", "n", str(tmp_path / "dicom")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
    (path,) = out.glob("*.nii")
    assert np.abs(in_nifti(path) - scan.points).max() < TOLERANCE_MM
    assert np.abs(in_nifti(tmp_path / "ours.nii") - scan.points).max() < TOLERANCE_MM
