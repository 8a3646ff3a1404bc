"""Which counters the images of a file are written under, so that reading gives the labels again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from medrecon.errors import InconsistentError
from medrecon.geometry import MRGeometry
from medrecon.raw.images import COUNTERS, PARTS, labels_of
from medrecon.study import Study

_PART = re.compile(r"([a-z]+)-([1-9][0-9]{0,4})")


def counters_of(studies: Sequence[Study]) -> Sequence[Mapping[str, int]]:
    """Counters (from 1) of every study, by its label; unlabelled ones become repetitions.

    Raises
    ------
    InconsistentError
        If labels do not tell the studies apart in the reader's terms, or slabs are not counted
        along their normal.
    """
    if len(studies) > 1 and not any(study.label for study in studies):
        return [{"repetition": number + 1} for number in range(len(studies))]
    found: list[Mapping[str, int]] = [_parsed(study.label) for study in studies]
    labels = labels_of(found)
    odd = [
        s.label
        for s, label in zip(studies, labels, strict=True)
        if len(studies) > 1 and s.label != label
    ]
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if odd or repeated:
        raise InconsistentError(
            f"The label {(odd or repeated)[0]!a} does not tell its image from the others of "
            f"the file; labels count {', '.join((*COUNTERS, *PARTS))} from 1, those that differ, "
            "e.g. 'contrast-2_repetition-1'."
        )
    _check_slabs(studies, found)
    return found if len(studies) > 1 else [{}]


def first_slices(studies: Sequence[Study], counters: Sequence[Mapping[str, int]]) -> list[int]:
    """Counter of the first slice of every study: stacks after each other, one slab each."""
    sizes: dict[tuple[int, int], int] = {}
    for study, own in zip(studies, counters, strict=True):
        key = (own.get("encoding", 1), own.get("stack", 1))
        sizes[key] = max(sizes.get(key, 0), _slices(study))
    return [
        own.get("slab", 1) - 1
        if _is_3d(study)
        else sum(
            size
            for (encoding, stack), size in sizes.items()
            if encoding == own.get("encoding", 1) and stack < own.get("stack", 1)
        )
        for study, own in zip(studies, counters, strict=True)
    ]


def _parsed(label: str) -> dict[str, int]:
    found = {}
    for part in label.split("_") if label else ():
        match = _PART.fullmatch(part)
        if match is None or match[1] not in (*COUNTERS, *PARTS):
            return {}
        found[match[1]] = int(match[2])
    return found


def _check_slabs(studies: Sequence[Study], counters: Sequence[Mapping[str, int]]) -> None:
    """Hold labels to the reader's way of counting slabs: along their normal."""
    heights: dict[int, float] = {}
    for study, own in zip(studies, counters, strict=True):
        if "slab" in own and study.grid is not None:
            normal = np.array(study.grid.directions[0])
            heights[own["slab"]] = float(np.array(study.grid.center) @ normal)
    ordered = [heights[slab] for slab in sorted(heights)]
    if ordered != sorted(ordered):
        raise InconsistentError("Slabs must be labelled in their order along the slice direction.")


def _is_3d(study: Study) -> bool:
    return isinstance(study.geometry, MRGeometry) and study.geometry.is_3d


def _slices(study: Study) -> int:
    return 0 if study.grid is None or _is_3d(study) else study.grid.shape[0]
