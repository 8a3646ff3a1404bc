"""One image of Cartesian readouts: filled, whitened, cropped, placed."""

from __future__ import annotations

from dataclasses import replace

import torch

from medrecon.preprocessing.oversampling import kept_samples, remove_oversampling
from medrecon.raw.calibration import calibration_kspace
from medrecon.raw.encoding import kept_width, voxel_size
from medrecon.raw.facts import cartesian_facts
from medrecon.raw.fill import coil_energy, fill_kspace
from medrecon.raw.images import Image
from medrecon.raw.pattern import noise_level, pattern_of
from medrecon.raw.place import grid_of
from medrecon.raw.plausible import live_coils, warn_of_spikes
from medrecon.raw.scan import RawScan
from medrecon.raw.stopped import warn_of_short_slices
from medrecon.raw.timing import identity_of_image, sample_times
from medrecon.raw.whitening import coils_of
from medrecon.study import Study


def cartesian_study(scan: RawScan, image: Image) -> Study:
    """Make the study of one image.

    Returns
    -------
    Study
        k-space ``(z, coils, y, x)`` or ``(coils, z, y, x)``.

    Raises
    ------
    InconsistentError
        If readouts do not fit each other or the header.
    ResourceError
        If the k-space would not fit into memory.
    """
    path, encoding = scan.path, image.encoding
    readouts = image.readouts
    live = live_coils(coil_energy(readouts), path)
    width, slices = kept_width(encoding), len(image.slices)
    shape = (encoding.matrix[0] if encoding.is_3d else slices, encoding.matrix[1], width)
    grid, order = grid_of(image, shape, voxel_size(encoding), path)
    filled = fill_kspace(readouts, order, encoding, path)
    coils = coils_of(scan, readouts, live)
    kspace = remove_oversampling(coils.apply(filled.kspace, 1), width)
    kspace = kspace[0] if encoding.is_3d else kspace[:, :, 0]
    counts = kept_samples(filled.counts, width)
    counts = counts[0] if encoding.is_3d else counts[:, 0]
    pattern = pattern_of(counts, is_3d=encoding.is_3d)
    kspace = (kspace * torch.from_numpy(pattern.geometry.samples)).contiguous()
    if not encoding.is_3d:
        warn_of_short_slices(readouts, order, path)
    warn_of_spikes(kspace.numpy(), path)
    geometry = pattern.geometry
    if "epi" not in scan.facts:  # along an echo train time runs with the lines
        every = encoding.matrix[2] / width
        times = sample_times(scan, image, width, width // 2, every=every)
        geometry = replace(geometry, times=times)
    return Study(
        measurements=kspace,
        geometry=geometry,
        grid=grid,
        weights=pattern.weights,
        noise_std=noise_level(scan, pattern.averages),
        identity=identity_of_image(scan, image),
        source=path,
        reference=scan.reference,
        label=image.label,
        calibration=calibration_kspace(scan, image, order, grid, coils),
        facts=cartesian_facts(scan, image, counts, grid, order, coils),
    )
