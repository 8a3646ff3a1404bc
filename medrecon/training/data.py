"""The images of a recipe: found, read, prepared, and split by patient."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.data import DataLoader, Dataset

from medrecon.errors import InconsistentError, MedreconError, UnreadableError
from medrecon.io.collections import ImageFile, find_images, hidden
from medrecon.io.read import read_image
from medrecon.io.slices import read_slices
from medrecon.training.cache import cached, fingerprint
from medrecon.training.settings import Data, Modality, Recipe
from medrecon.training.slices import Series, Slices
from medrecon.training.volumes import fit, prepare
from medrecon.volume import Unit


@dataclass(frozen=True)
class Images:
    """What a run works on; slices of ``train`` and ``validation`` share no patient.

    Parameters
    ----------
    train
        ``None`` where only procedural anatomy is trained.
    validation
        ``None`` where there is no patient data.
    ood
        Named sets that the prior is not meant for.
    """

    train: Slices | None
    validation: Slices | None
    ood: dict[str, Slices] = field(default_factory=dict)


def load_images(recipe: Recipe) -> Images:
    """Read all images of a recipe.

    Files that cannot be used (damaged, irregular, of another modality) are left out with a warning.

    Raises
    ------
    UnreadableError
        If a path is missing or holds nothing that can be used.
    InconsistentError
        If a patient is in both sets, or there are too few patients to keep some for validation.
    """
    data = recipe.data
    train = _read(data.train, "data.train", recipe) if data.synthetic < 1 else []
    if data.validation:
        validation = _read(data.validation, "data.validation", recipe)
        _refuse_overlap(train, validation)
    else:
        train, validation = split(train, data.validation_share)
    return Images(
        train=_slices(train, data),
        validation=_slices(validation, data),
        ood={
            name: Slices(_read(paths, f"data.ood.{name}", recipe), correlation=1.0, reach=1)
            for name, paths in data.ood.items()
        },
    )


def split(series: Sequence[Series], share: float) -> tuple[list[Series], list[Series]]:
    """Keep a share of the patients for validation.

    The order of the patients' hashed names decides, so the same files give the same split, and a
    patient more moves at most one other.

    Raises
    ------
    InconsistentError
        If there is only one patient.
    """
    if not series:
        return [], []
    patients = sorted({s.patient for s in series}, key=_rank)
    kept = max(1, round(share * len(patients))) if share else 0
    if kept >= len(patients):
        raise InconsistentError(
            f"{len(patients)} patient{'s are' * (len(patients) > 1) or ' is'} too few to keep "
            "some for validation; name more files, or set data.validation."
        )
    held_out = set(patients[:kept])
    return (
        [s for s in series if s.patient not in held_out],
        [s for s in series if s.patient in held_out],
    )


def _rank(patient: str) -> str:
    return hashlib.sha256(f"split {patient}".encode()).hexdigest()


def _slices(series: Sequence[Series], data: Data) -> Slices | None:
    if not series:
        return None
    return Slices(series, correlation=data.neighbour_correlation, reach=data.neighbour_reach)


def _refuse_overlap(train: Sequence[Series], validation: Sequence[Series]) -> None:
    both = {s.patient for s in train} & {s.patient for s in validation}
    if both:
        raise InconsistentError(
            f"{len(both)} patient{'s are' if len(both) > 1 else ' is'} in data.train and in "
            "data.validation; scores would be of no worth, so take them out of one of both."
        )


def _read(paths: Sequence[str], key: str, recipe: Recipe) -> list[Series]:
    try:
        files = [file for path in paths for file in find_images(Path(path))]
    except UnreadableError as error:
        raise UnreadableError(f"{key}: {error}") from None
    read = Dataset(files, transform=_Reader(recipe.data, recipe.modality))
    workers = recipe.optimiser.workers
    loader = DataLoader(read, batch_size=1, num_workers=workers, collate_fn=_first)
    found: list[Series] = []
    left_out: list[str] = []
    for result in loader:
        if isinstance(result, str):
            left_out.append(result)
        else:
            found += result
    if not found:
        raise UnreadableError(f"{key}: no image can be used: {left_out[0]}")
    for reason in left_out:
        warnings.warn(f"left out: {reason}", stacklevel=2)
    return found


def _first(batch: list[Any]) -> Any:
    return batch[0]


class _Reader:
    """Reads one file: its series, or the sentence that says why not."""

    def __init__(self, data: Data, modality: Modality) -> None:
        self.data = data
        self.modality = modality

    def __call__(self, file: ImageFile) -> list[Series] | str:
        try:
            return self._slices(file.path) if file.kind == "hdf5" else [self._kept(file)]
        except MedreconError as error:
            return str(error)

    def _slices(self, path: Path) -> list[Series]:
        return [
            Series(
                hidden(stored.subject),
                fit(stored.slices, self.data.size, self.modality),
                stored.pixel_mm,
            )
            for stored in read_slices(path, self.modality)
        ]

    def _kept(self, file: ImageFile) -> Series:
        """Prepare a volume, or take it from the cache."""
        if self.data.cache is None:
            return self._volume(file)
        how = (self.modality, self.data.size, self.data.pixel_mm)
        key = f"{fingerprint(file.path)} {how}"
        return cached(Path(self.data.cache), key, lambda: self._volume(file))

    def _volume(self, file: ImageFile) -> Series:
        unit = Unit.HU if self.modality == "CT" else Unit.ARBITRARY
        volume, identity = read_image(file.path, unit=unit)
        if volume.unit is not unit:
            raise InconsistentError(f"{file.path} is no {self.modality}.")
        owner = identity.attributes.get("PatientID") or file.owner or file.path.name
        pixel = self.data.pixel_mm or float(sum(volume.grid.spacing[1:]) / 2)
        return Series(hidden(owner), prepare(volume, self.data, self.modality), pixel)
