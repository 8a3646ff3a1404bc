"""The loop over cases, seeds and methods."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import medrecon
from medrecon.benchmark.case import Case
from medrecon.benchmark.classical import Method, best_weight, make, sweep
from medrecon.benchmark.learned import (
    OURS,
    Sampling,
    alone,
    sample,
    shipped_safety,
)
from medrecon.benchmark.lesions import contrast
from medrecon.benchmark.memory import Peak
from medrecon.benchmark.pictures import keep_picture
from medrecon.benchmark.rows import Row, Rows, fingerprint
from medrecon.benchmark.scan import Scan, scans_of
from medrecon.benchmark.score import misfit, quality, score, truth_of
from medrecon.benchmark.settings import Settings
from medrecon.errors import UnreadableError
from medrecon.protocol import Protocol
from medrecon.reconstruct import Event
from medrecon.volume import Volume

TUNING_SEED = 1000
TUNING_SLICES = 8
QUICK_SLICES = 2
QUICK_ITERATIONS = 6
_T = TypeVar("_T")
Steps = Generator[Event | Row, None, Row]
Told = Generator[Event | Row, None, list[Row]]


def benchmark(cases: Sequence[Case], settings: Settings, folder: Path | None = None) -> Told:
    """Run methods on cases; yields progress, and every row as soon as it is known.

    Parameters
    ----------
    cases
        See :func:`~medrecon.benchmark.suites.cases_of`; a quick look takes the first and the last.
    settings
        What is run on them.
    folder
        Where rows and pictures are kept; what is there already is not measured again. ``None``:
        nothing is kept.

    Returns
    -------
    list of dict
        The rows of these cases and settings, known ones among them.

    Raises
    ------
    MedreconError
        If a method cannot be run. A case whose image is not there is left out with a warning.
    """
    rows = Rows(None if folder is None else folder / "rows.jsonl")
    chosen: list[Row] = []
    some = dict.fromkeys((cases[0], cases[-1])) if settings.quick and cases else cases
    for case in some:
        try:
            runs = [_Run(case, settings, seed, rows, folder) for seed in range(settings.seeds)]
        except UnreadableError as error:
            if len(cases) == 1:
                raise
            warnings.warn(f"{case.suite}, {case.name} is left out: {error}", stacklevel=2)
            continue
        for run in runs:
            chosen += yield from run.all()
    return chosen


class _Run:
    """One case with one seed."""

    def __init__(
        self, case: Case, settings: Settings, seed: int, rows: Rows, folder: Path | None
    ) -> None:
        self.case, self.settings, self.seed = case, settings, seed
        self.rows, self.folder = rows, folder
        most = QUICK_SLICES if settings.quick else settings.slices
        self.setting = scans_of(case, settings.data, settings.image, most)

    @cached_property
    def scan(self) -> Scan:
        return self.setting.scan(self.seed, device=self.settings.device)

    @cached_property
    def without(self) -> Scan | None:
        """The same scan of the patient who has no lesion."""
        if self.case.lesion is None:
            return None
        return self.setting.scan(self.seed, lesion=False, device=self.settings.device)

    def all(self) -> Told:
        """Every method, known rows first looked up."""
        told = []
        kind = self.setting.protocol.acquisition.kind
        for method in self.settings.classical(kind):
            told.append((yield from self._classical(method)))
        for one in self.settings.samplings:
            told.append((yield from self._learned(one)))
        return told

    def _head(self, method: str, **further: Any) -> Row:
        """Begin a row; its key changes with all it depends on."""
        head: Row = {"suite": self.case.suite, "case": self.case.name, "method": method}
        head |= {"seed": self.seed, "slices": self.setting.slices, "quick": self.settings.quick}
        head |= {"device": self.settings.device}
        lesion = self.case.lesion
        head["key"] = fingerprint(
            **head,
            image=self.setting.image.name,
            acquisition=self.setting.protocol.acquisition.model_dump(mode="json"),
            grid=self.setting.slices,
            lesion=None if lesion is None else vars(lesion),
            version=medrecon.__version__,
            **further,
        )
        return head

    def _known(self, key: str) -> Row | None:
        return None if self.settings.again else self.rows.get(key)

    def _classical(self, method: Method) -> Steps:
        head = self._head(method.name, how=vars(method))
        known = self._known(head["key"])
        if known is not None:
            yield known
            return known
        trials: dict[float, float] = {}
        if method.weight is not None and not self.settings.quick:
            trials = yield from self._sweep(method)
        weight = best_weight(trials) if trials else method.weight
        window = self.scan.window if method.is_filtered else "hann"
        problem = self.scan.problem(window)
        peak, begin = Peak(self.settings.device), time.monotonic()
        made = yield from self._told(make(method, problem, weight, quick=self._quick))
        seconds = round(time.monotonic() - begin, 2)
        volume = problem.to_volume(made.image)
        row = head | ({"filter": window} if method.is_filtered else {})
        row |= score(volume, self.scan.study, problem.data_range)
        row |= {"calls": 0, "seconds": seconds, "peak_mb": peak.megabytes()}
        row |= {"misfit": misfit(problem, made.image), "weight": weight, **made.facts}
        if trials:
            row["trials"] = {f"{w:g}": round(value, 3) for w, value in trials.items()}
        if self.without is not None:
            twin = self.without.problem(window)
            other = yield from self._told(make(method, twin, weight, quick=self._quick))
            row |= self._contrast(volume, twin.to_volume(other.image))
        return (yield from self._finish(row, volume))

    def _sweep(self, method: Method) -> Generator[Event | Row, None, dict[float, float]]:
        """Find the weight on the middle slices, with noise of their own."""
        tuning = replace(self.settings, slices=min(TUNING_SLICES, self.setting.slices))
        run = _Run(self.case, tuning, TUNING_SEED, self.rows, None)

        def trial(weight: float) -> Generator[Event, None, float]:
            head = run._head(method.name, how=vars(method), weight=weight)
            known = run._known(head["key"])
            if known is not None:
                return float(known["psnr"])
            problem = run.scan.problem()
            made = yield from make(method, problem, weight, quick=False)
            found = round(quality(problem, made.image), 4)
            self.rows.add(head | {"trial": True, "weight": weight, "psnr": found, **made.facts})
            return found

        assert method.weight is not None
        return (yield from self._told(sweep(method.weight, trial), "tuning "))

    def _learned(self, one: Sampling) -> Steps:
        changes = one.changes(self.setting.load().modality)
        if one.preset == OURS and not self._quick:
            changes += shipped_safety(self.setting.load())
        protocol = self.setting.load((*changes, *self.settings.changes))
        protocol = alone(protocol, QUICK_ITERATIONS if self._quick else None)
        head = self._head(one.name, sampler=_identity(protocol))
        known = self._known(head["key"])
        if known is not None:
            yield known
            return known
        peak = Peak(self.settings.device)
        result, facts = yield from self._told(
            sample(self.scan.study, protocol, seed=self.seed, device=self.settings.device)
        )
        row = head | score(result.volume, self.scan.study, result.report["data_range"])
        row |= facts | {"peak_mb": peak.megabytes(), "prior": result.report["prior"]}
        if self.settings.changes:
            row["changes"] = list(self.settings.changes)
        if self.without is not None:
            other, _ = yield from self._told(
                sample(self.without.study, protocol, seed=self.seed, device=self.settings.device)
            )
            row |= self._contrast(result.volume, other.volume)
        return (yield from self._finish(row, result.volume))

    @property
    def _quick(self) -> bool:
        return self.settings.quick

    def _contrast(self, volume: Volume, other: Volume) -> Row:
        placed = self.setting.placed
        assert placed is not None
        assert self.without is not None
        return contrast(
            volume.data,
            other.data,
            truth_of(self.scan.study),
            truth_of(self.without.study),
            placed.core(volume),
        )

    def _told(
        self, events: Generator[Event, None, _T], what: str = ""
    ) -> Generator[Event | Row, None, _T]:
        """Pass events on, with the case's name."""
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                value: _T = end.value
                return value
            yield replace(event, stage=f"{what}{self.case.name} {event.stage}")

    def _finish(self, row: Row, volume: Volume) -> Steps:
        self.rows.add(row)
        if self.folder is not None and self.seed == 0:
            truth = Volume(truth_of(self.scan.study), volume.grid, volume.unit)
            keep_picture(self.folder, row, volume, truth, self.setting.placed)
        yield row
        return row


def _identity(protocol: Protocol) -> dict[str, Any]:
    """List what the sampler's row depends on: its settings, and the prior's weights."""
    from medrecon.priors.weights import load_prior

    assert protocol.prior is not None
    assert protocol.sampler is not None
    return {
        "prior": load_prior(protocol.prior.name).card.sha256,
        "sampler": protocol.sampler.model_dump(mode="json"),
        "baselines": [baseline.model_dump(mode="json") for baseline in protocol.baselines],
    }


def rows_only(told: Iterator[Event | Row]) -> Iterator[Row]:
    """Leave progress out."""
    return (one for one in told if isinstance(one, dict))
