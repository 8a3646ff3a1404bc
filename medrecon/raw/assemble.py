"""From single readouts, as raw files hold them, to one study per image.

MRD and twix readers translate their readouts into the values of :mod:`medrecon.raw.scan`; telling
images apart, sorting, averaging, whitening, cropping and placing is the same and happens here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from medrecon.errors import InconsistentError, ResourceError
from medrecon.raw.cartesian import cartesian_study
from medrecon.raw.encoding import check_encoding
from medrecon.raw.epi import corrected
from medrecon.raw.fill import check_alike, encoded_bytes
from medrecon.raw.images import Image, images_of
from medrecon.raw.noncartesian import noncartesian_study
from medrecon.raw.place import check_places
from medrecon.raw.scan import MAX_BYTES, RawScan
from medrecon.study import Study

_CARTESIAN = ("cartesian", "epi")


def assemble(scan: RawScan) -> tuple[Study, ...]:
    """Make a study of every image that a scan holds.

    Images differ in encoding, contrast, phase, repetition, set, slab (3D) or stack (slices of
    another orientation); ``label`` says in what, ``""`` where there is only one.

    Returns
    -------
    tuple of Study
        Ordered by those counters. The noise has unit variance per sample where a noise scan was
        made (less, where readouts were averaged). Where samples were averaged unequally,
        ``weights`` counts them.

    Raises
    ------
    InconsistentError
        If readouts do not fit each other or the header.
    ResourceError
        If the k-space would not fit into memory.

    Warns
    -----
    UserWarning
        Where an image is left out because its scan was stopped early, and where something had to
        be assumed.
    """
    for number in sorted({readout.encoding for readout in scan.readouts}):
        if number < len(scan.encodings):
            check_encoding(scan.encodings[number], scan.path)
    check_places((*scan.readouts, *scan.calibration), scan.path)
    for image in images_of(scan):  # before anything is computed with them
        check_alike(image.readouts, scan.path)
    scan = _straightened(scan)
    images = images_of(scan)
    _check_memory(scan, images)
    studies = []
    for image in images:
        study = _whole(scan, image)
        if study is not None:
            studies.append(study)
    return tuple(studies)


def _straightened(scan: RawScan) -> RawScan:
    """Correct echo trains; errors name the file."""
    try:
        return corrected(scan)
    except InconsistentError as error:
        if str(scan.path) in str(error):
            raise
        raise InconsistentError(f"{scan.path}: {error}") from error


def _whole(scan: RawScan, image: Image) -> Study | None:
    """Make one image; ``None``, with a warning, where its slices are too few to make a stack."""
    make = cartesian_study if image.encoding.trajectory in _CARTESIAN else noncartesian_study
    try:
        study = make(scan, image)
    except InconsistentError as error:
        if not image.lacks_slices:
            raise
        warnings.warn(
            f"{scan.path}: the image {image.label} is left out; it holds {len(image.slices)} of "
            f"{image.slices_of_siblings} slices, which make no stack ({error})",
            stacklevel=2,
        )
        return None
    if image.lacks_slices or image.is_cut_short:
        warnings.warn(
            f"{scan.path}: the image {image.label} holds {len(image.slices)} of "
            f"{image.slices_of_siblings} slices in {len(image.readouts)} readouts, fewer than "
            "others; was the scan stopped early?",
            stacklevel=2,
        )
    return study


def _check_memory(scan: RawScan, images: Sequence[Image]) -> None:
    needed = sum(
        encoded_bytes(image.encoding, len(image.slices), image.readouts[0].data.shape[0])
        for image in images
        if image.encoding.trajectory in _CARTESIAN
    )
    if needed > MAX_BYTES:
        raise ResourceError(
            f"{scan.path}: the k-space of its {len(images)} images needs {needed / 2**30:.1f} GiB "
            "of memory; split the file."
        )
