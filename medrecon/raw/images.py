"""Which readouts belong to one image: contrasts, repetitions, slabs and stacks told apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medrecon.errors import InconsistentError
from medrecon.raw.scan import Encoding, RawScan, Readout
from medrecon.raw.slices import SlicePose
from medrecon.raw.stopped import is_beginning

COUNTERS = ("encoding", "contrast", "phase", "repetition", "set")
"""What tells the images of a file apart, slowest first."""

PARTS = ("slab", "stack")
"""Where a file holds several volumes: 3D slabs, and stacks of slices of different orientation."""

_PARALLEL = 1e-3  # largest difference of direction cosines within one stack


@dataclass(frozen=True, kw_only=True)
class Image:
    """The readouts of one image.

    Parameters
    ----------
    counters
        Which encoding, contrast, phase, repetition, set, and slab (3D) or stack (2D), from 1.
    encoding
        The encoded space.
    readouts
        In the order of acquisition.
    calibration
        Readouts of the calibration scan for this image, in the order of acquisition.
    slices_of_siblings
        How many slices the fullest image of the same kind has.
    is_cut_short
        Whether it is only the beginning of another image of the same kind.
    label
        What tells it from the others of the file, e.g. ``"contrast-2_repetition-1"``.
    """

    counters: Mapping[str, int]
    encoding: Encoding
    readouts: Sequence[Readout]
    calibration: Sequence[Readout] = ()
    slices_of_siblings: int = 1
    is_cut_short: bool = False
    label: str = ""

    @property
    def slices(self) -> list[int]:
        """Counters of its slices, in the order in which they were first acquired."""
        return list(dict.fromkeys(readout.slice for readout in self.readouts))

    @property
    def lacks_slices(self) -> bool:
        """Whether images of the same kind have more slices."""
        return len(self.slices) < self.slices_of_siblings


def images_of(scan: RawScan) -> tuple[Image, ...]:
    """Split a scan into images, ordered by their counters.

    Raises
    ------
    InconsistentError
        If readouts refer to an encoding that is not there, or there are none.
    """
    if not scan.readouts:
        raise InconsistentError(f"{scan.path} holds no imaging data (only noise or other scans).")
    readouts = number_slices(scan.readouts, scan.encodings, scan.path)
    calibration = number_slices(scan.calibration, scan.encodings, scan.path)
    parts = _slabs_and_stacks(readouts, scan.encodings)
    groups: dict[tuple[int, ...], list[Readout]] = defaultdict(list)
    for readout in readouts:
        key = (*_key(readout), parts[readout.encoding, readout.slice])
        groups[key].append(readout)
    fullest: dict[tuple[int, int], int] = defaultdict(int)
    longest: dict[tuple[int, int], list[Readout]] = defaultdict(list)
    for (number, *_, part), members in groups.items():
        count = len({readout.slice for readout in members})
        fullest[number, part] = max(fullest[number, part], count)
        longest[number, part] = max(longest[number, part], members, key=len)
    found = []
    for key in sorted(groups):
        encoding = scan.encodings[key[0]]
        names = (*COUNTERS, "slab" if encoding.is_3d else "stack")
        found.append(
            Image(
                counters={name: value + 1 for name, value in zip(names, key, strict=True)},
                encoding=encoding,
                readouts=tuple(groups[key]),
                calibration=_calibration_for(groups[key], calibration),
                slices_of_siblings=fullest[key[0], key[-1]],
                is_cut_short=is_beginning(groups[key], longest[key[0], key[-1]]),
            )
        )
    labels = labels_of([image.counters for image in found])
    return tuple(replace(image, label=label) for image, label in zip(found, labels, strict=True))


def number_slices(
    readouts: Sequence[Readout], encodings: Sequence[Encoding], path: Path
) -> list[Readout]:
    """Give slices numbers where the file counts none but they lie at different places.

    Raises
    ------
    InconsistentError
        If a readout refers to an encoding that is not there.
    """
    places: dict[int, dict[bytes, int]] = defaultdict(dict)
    counters: dict[int, set[int]] = defaultdict(set)
    for readout in readouts:
        if not 0 <= readout.encoding < len(encodings):
            raise InconsistentError(
                f"{path}: the readouts refer to encoding {readout.encoding}, the header has "
                f"{len(encodings)}."
            )
        known = places[readout.encoding]
        known.setdefault(_place(readout.pose), len(known))
        counters[readout.encoding].add(readout.slice)
    unnumbered = {
        encoding for encoding in places if len(counters[encoding]) == 1 < len(places[encoding])
    }
    return [
        replace(readout, slice=places[readout.encoding][_place(readout.pose)])
        if readout.encoding in unnumbered
        else readout
        for readout in readouts
    ]


def _place(pose: SlicePose) -> bytes:
    return np.concatenate([pose.position, pose.slice_dir]).tobytes()


def _key(readout: Readout) -> tuple[int, ...]:
    return tuple(int(getattr(readout, name)) for name in COUNTERS)


def _slabs_and_stacks(
    readouts: Iterable[Readout], encodings: Sequence[Encoding]
) -> dict[tuple[int, int], int]:
    """Give every (encoding, slice) the number of its slab or stack, from 0.

    Slabs are counted along their normal, stacks in the order of their slices' counters.
    """
    poses: dict[tuple[int, int], SlicePose] = {}
    for readout in readouts:
        poses.setdefault((readout.encoding, readout.slice), readout.pose)
    numbers: dict[tuple[int, int], int] = {}
    for index, encoding in enumerate(encodings):
        slices = sorted(number for e, number in poses if e == index)
        if encoding.is_3d:
            heights = [poses[index, s].position @ poses[index, s].slice_dir for s in slices]
            order = np.argsort(heights, kind="stable").tolist()
            numbers.update({(index, slices[s]): rank for rank, s in enumerate(order)})
            continue
        stacks: list[SlicePose] = []
        for number in slices:
            pose = poses[index, number]
            same = [i for i, other in enumerate(stacks) if _parallel(pose, other)]
            numbers[index, number] = same[0] if same else len(stacks)
            if not same:
                stacks.append(pose)
    return numbers


def _parallel(a: SlicePose, b: SlicePose) -> bool:
    return float(np.abs(a.directions - b.directions).max()) <= _PARALLEL


def _calibration_for(
    readouts: Sequence[Readout], calibration: Sequence[Readout]
) -> tuple[Readout, ...]:
    """Calibration of the same slices; of the same contrast and so on where there is one."""
    encoding = readouts[0].encoding
    if any(readout.encoding == encoding for readout in calibration):
        slices = {readout.slice for readout in readouts}
        found = [r for r in calibration if r.encoding == encoding and r.slice in slices]
    else:  # an encoded space of its own: its slices may be counted otherwise
        slice_at = {_place(readout.pose): readout.slice for readout in readouts}
        found = [
            replace(readout, slice=slice_at[_place(readout.pose)])
            for readout in calibration
            if _place(readout.pose) in slice_at
        ]
    for name in COUNTERS:
        values = {getattr(readout, name) for readout in found}
        if len(values) > 1:
            own = getattr(readouts[0], name)
            chosen = own if own in values else min(values)
            found = [readout for readout in found if getattr(readout, name) == chosen]
    return tuple(found)


def labels_of(counters: Sequence[Mapping[str, int]]) -> list[str]:
    """Name every image by the counters that are not the same in all."""
    names = [*COUNTERS, *PARTS]
    telling = [name for name in names if len({c.get(name, 0) for c in counters}) > 1]
    return ["_".join(f"{name}-{c[name]}" for name in telling if name in c) for c in counters]
