"""Which navigator echoes belong to which readouts."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from medrecon.raw.scan import RawScan, Readout

_EPSILON = 1e-4  # s: clocks of raw files tick every 2.5 ms


@dataclass(frozen=True)
class NavigatorSet:
    """Navigator echoes of one excitation, in the order of acquisition.

    Parameters
    ----------
    number
        Its place among all sets of the scan.
    echoes
        The readouts, of both directions.
    """

    number: int
    echoes: tuple[Readout, ...]

    @property
    def time(self) -> float:
        """When the first of them was acquired, s."""
        return self.echoes[0].time


class NavigatorSets:
    """Finds the navigators of a readout.

    They are those of the same slice that were acquired last before it, which is the same
    excitation; this tells repetitions, shots and reference scans apart by themselves. Where times
    are not known, the counters have to do.
    """

    def __init__(self, sets: Sequence[NavigatorSet], timed: bool) -> None:
        self._timed = timed
        self._sets: dict[tuple[int, ...], list[NavigatorSet]] = defaultdict(list)
        for one in sets:
            self._sets[_kind(one.echoes[0])].append(one)
        self._times = {kind: [one.time for one in some] for kind, some in self._sets.items()}

    def of(self, readout: Readout) -> NavigatorSet | None:
        """Give the navigators of a readout; ``None`` where its slice has none."""
        kind = _kind(readout)
        sets = self._sets.get(kind)
        if not sets:
            return None
        if self._timed:
            before = bisect_right(self._times[kind], readout.time + _EPSILON)
            return sets[max(0, before - 1)]
        return max(sets, key=lambda one: _likeness(one.echoes[0], readout))


def navigator_sets(scan: RawScan) -> NavigatorSets:
    """Sort the navigators of a scan into sets; those of one direction only are of no use."""
    everything = (*scan.navigators, *scan.readouts, *scan.calibration)
    timed = all(readout.time > 0 for readout in everything)
    groups = _by_time(scan) if timed else _by_counters(scan.navigators)
    useful = [group for group in groups if len({echo.reverse for echo in group}) > 1]
    sets = [NavigatorSet(number, tuple(group)) for number, group in enumerate(useful)]
    return NavigatorSets(sets, timed)


def _by_time(scan: RawScan) -> list[list[Readout]]:
    """Echoes of one slice with no other readout of that slice between them."""
    others: dict[int, list[float]] = defaultdict(list)
    for readout in (*scan.readouts, *scan.calibration):
        others[readout.slice].append(readout.time)
    for times in others.values():
        times.sort()
    slices: dict[int, list[Readout]] = defaultdict(list)
    for echo in scan.navigators:
        slices[echo.slice].append(echo)
    groups: list[list[Readout]] = []
    for number, echoes in slices.items():
        echoes.sort(key=lambda echo: echo.time)  # stable: the clock ticks slowly
        times = others[number]
        group = [echoes[0]]
        for echo in echoes[1:]:
            first, last = (bisect_right(times, t - _EPSILON) for t in (group[-1].time, echo.time))
            if first < last:
                groups.append(group)
                group = []
            group.append(echo)
        groups.append(group)
    return groups


def _by_counters(navigators: Sequence[Readout]) -> list[list[Readout]]:
    groups: dict[tuple[int, ...], list[Readout]] = defaultdict(list)
    for echo in navigators:
        groups[(*_kind(echo), *_counters(echo))].append(echo)
    return list(groups.values())


def _kind(readout: Readout) -> tuple[int, ...]:
    return readout.slice, *readout.data.shape


def _counters(readout: Readout) -> tuple[int, ...]:
    return readout.repetition, readout.contrast, readout.set, readout.phase, readout.partition


def _likeness(echo: Readout, readout: Readout) -> int:
    return sum(a == b for a, b in zip(_counters(echo), _counters(readout), strict=True))
