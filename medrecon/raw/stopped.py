"""Whether a scan was stopped early: something measured begins like another, and ends before it."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from medrecon.raw.scan import Readout

_SHORT = 0.9  # share of the other's readouts

Steps = list[tuple[int, ...]]


def is_beginning(readouts: Sequence[Readout], whole: Sequence[Readout]) -> bool:
    """Whether readouts are the first ones of ``whole``, and many fewer.

    Both in the order of acquisition. Patterns that differ by intention, as those of undersampled
    repetitions after a full one, do not begin alike.
    """
    return _is_cut([*map(_step, readouts)], [*map(_step, whole)])


def warn_of_short_slices(readouts: Sequence[Readout], order: Sequence[int], path: Path) -> None:
    """Warn where slices of one image hold only the first lines of another slice.

    Parameters
    ----------
    readouts
        In the order of acquisition.
    order
        Counters of the slices along the grid's z.
    path
        The file.
    """
    slices: dict[int, Steps] = defaultdict(list)
    for readout in readouts:
        slices[readout.slice].append(_step(readout)[1:])
    whole = max(slices.values(), key=len)
    short = [i for i, number in enumerate(order) if _is_cut(slices[number], whole)]
    if short:
        lines = len(set(slices[order[short[0]]]))
        warnings.warn(
            f"{path}: {len(short)} of {len(order)} slices hold fewer lines than the others "
            f"(slice {short[0]}: {lines} of {len(set(whole))}); was the scan "
            "stopped early?",
            stacklevel=2,
        )


def _is_cut(steps: Steps, whole: Steps) -> bool:
    steps, whole = list(dict.fromkeys(steps)), list(dict.fromkeys(whole))  # averages count once
    return len(steps) < _SHORT * len(whole) and steps == whole[: len(steps)]


def _step(readout: Readout) -> tuple[int, ...]:
    return (readout.slice, readout.partition, readout.line)
