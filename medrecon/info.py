"""What is in a file, and whether measurements fit a protocol; never whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import MRGeometry, NonCartesian
from medrecon.geometry_facts import geometry_facts
from medrecon.grid import Grid
from medrecon.io.ct_pd import is_ct_pd
from medrecon.io.read import read_image, read_studies
from medrecon.physics.placement import check_field
from medrecon.physics.shadow import check_water, truncation
from medrecon.protocol import Protocol
from medrecon.raw.facts import orientation_name
from medrecon.scanner import grid_of, kind_of, water_of
from medrecon.study import Study
from medrecon.volume import Volume


def look(path: Path, series_number: int | None = None) -> tuple[Study, ...] | Volume:
    """Read a file of either sort.

    Parameters
    ----------
    path
        Measurements, an image, or a folder with a DICOM series.
    series_number
        Which series, where the folder holds several.

    Returns
    -------
    tuple of Study, or Volume
        Measurements of all images of the file, or the image.

    Raises
    ------
    UnreadableError
        If the file is neither; the message is that of the reader which knew it best.
    """
    if not path.exists():
        raise UnreadableError(f"{path} does not exist.")
    try:
        return read_studies(path)
    except UnreadableError as not_a_study:
        try:
            return read_image(path, series_number=series_number)[0]
        except UnreadableError as not_an_image:
            folder_of_images = path.is_dir() and not is_ct_pd(path)
            raise (not_an_image if folder_of_images else not_a_study) from None


def describe(found: Study | tuple[Study, ...] | Volume) -> dict[str, Any]:
    """Describe measurements or an image, as plain values for JSON.

    Several images of a file stand under ``images``, by their labels.
    """
    if isinstance(found, Volume):
        return describe_volume(found)
    studies = (found,) if isinstance(found, Study) else found
    if len(studies) == 1:
        return describe_study(studies[0])
    return {
        "type": f"{studies[0].modality} measurements of {len(studies)} images",
        "images": {study.label: describe_study(study) for study in studies},
    }


def condense(facts: dict[str, Any]) -> dict[str, Any]:
    """Say what all images of a file share once, for people; other facts stay as they are.

    Counters are left out where images differ in them: labels say them.
    """
    images = facts.get("images")
    if not isinstance(images, dict):
        return facts
    shared, own = _split(list(images.values()))
    for block in own:
        acquisition = block.get("acquisition", {})
        acquisition.pop("counters", None)
        if not acquisition:
            block.pop("acquisition", None)
    told = dict(zip(images, own, strict=True)) if any(own) else list(images)
    return {**shared, "type": facts["type"], "images": told}


def _split(blocks: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Entries that are equal in all blocks, and the rest of each."""
    shared: dict[str, Any] = {}
    own: list[dict[str, Any]] = [{} for _ in blocks]
    for key in dict.fromkeys(key for block in blocks for key in block):
        values = [block.get(key) for block in blocks]
        if all(value == values[0] for value in values):
            shared[key] = values[0]
        elif all(isinstance(value, dict) for value in values):
            below, rest = _split(values)  # type: ignore[arg-type]
            if below:
                shared[key] = below
            for block, part in zip(own, rest, strict=True):
                block[key] = part
        else:
            for block, value in zip(own, values, strict=True):
                block[key] = value
    return shared, own


def describe_study(study: Study) -> dict[str, Any]:
    """Describe an acquisition: shapes, geometry in mm and degrees, grid, noise."""
    facts: dict[str, Any] = {
        "type": f"{study.modality} measurements",
        "shape": list(study.measurements.shape),
        "geometry": geometry_facts(study.geometry),
    }
    if isinstance(study.geometry, MRGeometry):
        facts["shape_axes"] = _axes(study)
        facts["coils"] = study.measurements.shape[study.geometry.coil_axis]
    if study.grid is not None:
        facts["grid"] = _describe_grid(study.grid)
    if study.mu_water is not None:
        facts["mu_water_per_mm"] = round(study.mu_water, 6)
    if not isinstance(study.geometry, MRGeometry):
        facts["truncated"] = truncation(study.measurements, study.geometry).remark or False
    facts["noise_std"] = study.noise_std
    facts["weighted"] = study.weights is not None
    facts["simulated"] = study.identity.simulated
    facts["has_reference"] = study.reference is not None
    if isinstance(study.geometry, MRGeometry):
        facts["has_calibration_scan"] = study.calibration is not None
        facts["has_coil_maps"] = study.maps is not None
    if study.facts:
        facts["acquisition"] = _plain(study.facts)
    return facts


def _axes(study: Study) -> list[str]:
    """Names of the axes of the measurements."""
    geometry = study.geometry
    last = ["shots", "samples"] if isinstance(geometry, NonCartesian) else ["y", "x"]
    if study.measurements.ndim == 3:
        return ["coils", *last]
    deep = isinstance(geometry, MRGeometry) and geometry.is_3d
    return ["coils", "z", *last] if deep else ["z", "coils", *last]


def _plain(value: Any) -> Any:
    """Make mappings dict and sequences list, so that JSON takes them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(below) for below in value]
    return value


def describe_volume(volume: Volume) -> dict[str, Any]:
    """Describe an image: grid, unit and range."""
    return {
        "type": "image",
        "shape": list(volume.data.shape),
        "grid": _describe_grid(volume.grid),
        "unit": volume.unit.value,
        "minimum": float(volume.data.min()),
        "maximum": float(volume.data.max()),
    }


def _describe_grid(grid: Grid) -> dict[str, Any]:
    return {
        "shape_zyx": list(grid.shape),
        "spacing_mm_zyx": [round(d, 6) for d in grid.spacing],
        "center_mm_lps": [round(c, 4) for c in grid.center],
        "axial": grid.is_axial,
        "orientation": orientation_name(grid),
    }


def check_study(study: Study, protocol: Protocol) -> None:
    """Check that measurements can be reconstructed as the protocol says.

    Raises
    ------
    InconsistentError
        If modality or kind differ, no ray meets the volume or the source stands inside it, or the
        object attenuates so differently from water that a length is in another unit.
    """
    name = study.source.name if study.source else "the study"
    if study.modality != protocol.modality:
        raise InconsistentError(
            f"protocol {protocol.name} is for {protocol.modality}, {name} holds {study.modality}."
        )
    kind = kind_of(study.geometry)
    if kind != protocol.acquisition.kind:
        raise InconsistentError(
            f"protocol {protocol.name} is for {protocol.acquisition.kind} data, {name} holds "
            f"{kind} data."
        )
    if isinstance(study.geometry, MRGeometry):
        return
    grid = grid_of(protocol)
    if grid is not None:
        check_field(study.geometry, grid)
    check_water(study.measurements, study.geometry, water_of(study, protocol))
