"""MRD files made with the ismrmrd package alone, as a scanner's converter would make them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
from ismrmrd import xsd
from numpy.typing import NDArray

OBLIQUE = np.array(
    [[0.0, -np.sin(0.26), np.cos(0.26)], [0.0, np.cos(0.26), np.sin(0.26)], [1.0, 0.0, 0.0]]
)
"""Rows: slice, phase and read direction; 15 degrees about the patient's x."""


def centred_fft(image: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    shifted = np.fft.ifftshift(image, axes=axes)
    return np.fft.fftshift(np.fft.fftn(shifted, axes=axes, norm="ortho"), axes=axes)


@dataclass
class Scan:
    """Slice-wise scan with readout oversampling; change what a test is about.

    ``images`` is ``(slices, coils, y, x)`` without oversampling.
    """

    images: NDArray[Any]
    pixel: tuple[float, float] = (1.5, 1.25)
    gap: float = 3.3
    thickness: float = 3.0
    middle: tuple[float, float, float] = (12.0, -7.0, 31.0)
    directions: NDArray[Any] = field(default_factory=lambda: OBLIQUE.copy())
    oversampling: int = 2
    lines: list[int] | None = None
    averages: int = 1
    noise: NDArray[Any] | None = None
    noise_dwell: float = 5.0
    on_header: Callable[[Any], None] = lambda header: None
    on_acquisition: Callable[[Any], None] = lambda acquisition: None
    extra: list[Any] = field(default_factory=list)

    def position(self, index: int) -> NDArray[Any]:
        offset = (index - (len(self.images) - 1) / 2) * self.gap
        center: NDArray[Any] = np.array(self.middle) + offset * self.directions[0]
        return center

    def header(self) -> Any:
        slices, _, height, width = self.images.shape
        fov_y, fov_x = height * self.pixel[0], width * self.pixel[1]
        header = xsd.ismrmrdHeader(
            experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=1),
            encoding=[
                xsd.encodingType(
                    encodedSpace=space(
                        (1, height, width * self.oversampling),
                        (self.thickness, fov_y, fov_x * self.oversampling),
                    ),
                    reconSpace=space((1, height, width), (self.thickness, fov_y, fov_x)),
                    encodingLimits=xsd.encodingLimitsType(
                        kspace_encoding_step_1=limit(height - 1, height // 2),
                        slice=limit(slices - 1, 0),
                    ),
                    trajectory=xsd.trajectoryType.CARTESIAN,
                )
            ],
        )
        self.on_header(header)
        return header

    def acquisitions(self) -> list[Any]:
        slices, _, height, width = self.images.shape
        wide = np.zeros((*self.images.shape[:3], width * self.oversampling), dtype=complex)
        start = width * self.oversampling // 2 - width // 2
        wide[..., start : start + width] = self.images
        kspace = centred_fft(wide, (-2, -1)).astype(np.complex64)
        found = []
        for readout in self.noise if self.noise is not None else []:
            acquisition = ismrmrd.Acquisition.from_array(readout.astype(np.complex64))
            acquisition.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
            acquisition.sample_time_us = self.noise_dwell
            found.append(acquisition)
        interleaved = [
            *range(1, slices, 2),
            *range(0, slices, 2),
        ]  # as Siemens does for even counts
        for average in range(self.averages):
            for counter, index in enumerate(interleaved):
                for line in self.lines if self.lines is not None else range(height):
                    acquisition = ismrmrd.Acquisition.from_array(
                        np.ascontiguousarray(kspace[index, :, line])
                    )
                    acquisition.idx.kspace_encode_step_1 = line
                    acquisition.idx.slice = counter
                    acquisition.idx.average = average
                    acquisition.center_sample = kspace.shape[-1] // 2
                    acquisition.sample_time_us = 5.0
                    acquisition.position[:] = self.position(index)
                    acquisition.slice_dir[:] = self.directions[0]
                    acquisition.phase_dir[:] = self.directions[1]
                    acquisition.read_dir[:] = self.directions[2]
                    self.on_acquisition(acquisition)
                    found.append(acquisition)
        return [*found, *self.extra]

    def write(self, path: Path) -> Path:
        return write_file(path, self.header(), self.acquisitions())


def write_file(path: Path, header: Any, acquisitions: Iterable[Any]) -> Path:
    dataset = ismrmrd.Dataset(str(path), "dataset", create_if_needed=True)
    dataset.write_xml_header(xsd.ToXML(header))
    for acquisition in acquisitions:
        dataset.append_acquisition(acquisition)
    dataset.close()
    return path


def limit(maximum: int, center: int) -> Any:
    return xsd.limitType(minimum=0, maximum=maximum, center=center)


def space(matrix: tuple[int, int, int], fov: tuple[float, float, float]) -> Any:
    """Encoded or reconstructed space; both triples ``(z, y, x)``."""
    z, y, x = matrix
    fov_z, fov_y, fov_x = fov
    return xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=x, y=y, z=z),
        fieldOfView_mm=xsd.fieldOfViewMm(x=fov_x, y=fov_y, z=fov_z),
    )
