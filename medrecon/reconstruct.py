"""From a study and a protocol to volumes: the only place that knows operators and priors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from medrecon.baselines import cgls, total_variation
from medrecon.compare import SAME_MM, compare_tensors, complex_nrmse, distance
from medrecon.errors import WeightsError
from medrecon.grid import Grid
from medrecon.priors.weights import Prior, load_prior
from medrecon.problem import Problem, ct_problem, mr_problems
from medrecon.protocol import Baseline, Protocol, Sampler
from medrecon.safeguard import Safeguard
from medrecon.samplers import assemble
from medrecon.sizing import size
from medrecon.study import Study
from medrecon.volume import Volume

RESULT = "dds"
"""Name of the sampler's volume in a :class:`Result`."""


@dataclass(frozen=True)
class Event:
    """Progress: which stage, at which of how many steps, and its residual where there is one.

    A ``note`` is for the user to read.
    """

    stage: str
    step: int
    steps: int
    residual: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Result:
    """Volumes by method, in the order they were made, and the record of the run.

    The last volume is the protocol's result.
    """

    volumes: dict[str, Volume]
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def volume(self) -> Volume:
        """The protocol's result."""
        return list(self.volumes.values())[-1]


Events = Generator[Event, None, Result]
_Stage = Generator[Event, None, Tensor]


def reconstruct(study: Study, protocol: Protocol, *, seed: int = 0, device: str = "cpu") -> Events:
    """Run a protocol on a study, step by step.

    The generator yields :class:`Event` and returns a :class:`Result`; :func:`run` runs it to its
    end.  The same seed, device and number of threads give the same bytes.

    Parameters
    ----------
    study
        What was measured.
    protocol
        What to do.
    seed
        Seed of all randomness: sampling pattern, noise of the sampler.
    device
        Torch device, e.g. ``"cpu"`` or ``"cuda:0"``.

    Raises
    ------
    MedreconError
        If study, protocol and prior do not fit each other.
    """
    for events in reconstruct_all((study,), protocol, seed=seed, device=device):
        result = yield from events
    return result


def reconstruct_all(
    studies: Sequence[Study], protocol: Protocol, *, seed: int = 0, device: str = "cpu"
) -> Iterator[Events]:
    """Run a protocol on every image of a file, one after the other.

    Each item is one image's generator of events, as of :func:`reconstruct`, to be run to its end
    before the next is asked for. Images are set up one by one, so that only one is in memory;
    where the protocol has ``llr``, which takes those that were measured alike together, all are.

    Parameters
    ----------
    studies
        The images.
    protocol, seed, device
        As for :func:`reconstruct`.
    """
    prior = load_for(protocol, device)

    def problems(group: Sequence[Study]) -> tuple[Problem, ...]:
        return problems_of(group, protocol, prior, seed, device)

    if any(baseline.method == "llr" for baseline in protocol.baselines):
        for problem in problems(studies):
            yield _reconstruct(partial(_same, problem), protocol, prior, seed, device)
        return
    for study in studies:
        yield _reconstruct(partial(_first, problems, study), protocol, prior, seed, device)


def _first(problems: Callable[[Sequence[Study]], tuple[Problem, ...]], study: Study) -> Problem:
    return problems((study,))[0]


def _same(problem: Problem) -> Problem:
    return problem


def _reconstruct(
    set_up: Callable[[], Problem],
    protocol: Protocol,
    prior: Prior | None,
    seed: int,
    device: str,
) -> Events:
    clock = time.monotonic()
    problem = set_up()
    yield Event("prepare", 1, 1)
    apart = _apart(problem)
    if apart is not None:
        yield Event("reference", 1, 1, note=apart)
    memory: dict[str, Any] | None = None
    if prior is not None and protocol.prior is not None:
        sized = size(prior, problem, device, protocol.prior.batch)
        prior, memory = sized.prior, sized.plan.as_json()
        yield Event("memory", 1, 1, note=sized.note)
    images: dict[str, Tensor] = {}
    stages: dict[str, Any] = {}
    safety: dict[str, Any] | None = None
    for baseline in protocol.baselines:
        begin = time.monotonic()
        record: dict[str, Any] = {}
        images[baseline.method] = yield from run_baseline(baseline, problem, images, record)
        stages[baseline.method] = _finish(record, problem, images[baseline.method], begin)
    if prior is not None and protocol.sampler is not None:
        begin, record = time.monotonic(), {}
        images[RESULT] = yield from _sample(prior, problem, protocol.sampler, images, seed, record)
        stages[RESULT] = _finish(record, problem, images[RESULT], begin)
        safety = yield from _safeguard(prior, problem, protocol, images, seed)
    volumes = {name: problem.to_volume(image) for name, image in images.items()}
    report = {
        "device": device,
        **problem.facts,
        "prior": None if prior is None else _facts(prior),
        "memory": memory,
        "noise_std": problem.study.noise_std,
        "stages": stages,
        "safety": safety,
        "seconds": round(time.monotonic() - clock, 2),
    }
    reference, phase = problem.study.reference, problem.study.reference_phase
    if apart is not None:
        report["not_compared"] = apart
    elif reference is not None:
        report["data_range"] = problem.data_range
        report["metrics"] = {
            name: _metrics(volume, reference, phase, problem.data_range)
            for name, volume in volumes.items()
        }
    return Result(volumes, report)


def _apart(problem: Problem) -> str | None:
    """Say why the results cannot be compared with the scan's reference, where they cannot.

    A reference brought onto another grid would be blurred or aliased, and beyond its border
    nothing is known, so the numbers would be of the interpolation too.
    """
    study, wanted = problem.study, problem.grid
    if study.reference is None or study.grid is None:
        return None
    grid = study.grid.shifted(study.isocenter)
    apart = distance(grid, wanted)
    if apart <= SAME_MM:
        return None
    moved = math.isfinite(apart) and _in_words(grid) == _in_words(wanted)
    how = f"{apart:.3g} mm apart" if moved else _in_words(grid)
    return (
        f"the results are not compared with the reference in the scan: their grid of "
        f"{_in_words(wanted)} is not its own ({how}); reconstruct on that one for PSNR and SSIM."
    )


def _in_words(grid: Grid) -> str:
    shape, spacing = (" x ".join(f"{n:g}" for n in v) for v in (grid.shape, grid.spacing))
    return f"{shape} voxels of {spacing} mm"


def _facts(prior: Prior) -> dict[str, str]:
    return {
        "name": prior.card.name,
        "sha256": prior.card.sha256,
        "precision": str(prior.denoiser.precision).removeprefix("torch."),
    }


def _metrics(
    volume: Volume, reference: Tensor, phase: Tensor | None, data_range: float
) -> dict[str, Any]:
    """Agreement with the truth; of complex images with its phase too, where that is known."""
    metrics: dict[str, Any] = compare_tensors(volume.data, reference, data_range).as_json()
    if volume.phase is not None and phase is not None:
        metrics["complex_nrmse"] = complex_nrmse(volume.complex, torch.polar(reference, phase))
    return metrics


def run(study: Study, protocol: Protocol, *, seed: int = 0, device: str = "cpu") -> Result:
    """Run a protocol on a study to its end; see :func:`reconstruct`."""
    events = reconstruct(study, protocol, seed=seed, device=device)
    while True:
        try:
            next(events)
        except StopIteration as end:
            result: Result = end.value
            return result


def load_for(protocol: Protocol, device: str) -> Prior | None:
    """Load the prior that a protocol names, if it names one."""
    if protocol.prior is None:
        return None
    prior = load_prior(protocol.prior.name, device=device, precision=protocol.prior.precision)
    if prior.card.modality != protocol.modality:
        raise WeightsError(
            f"The prior {prior.card.name} is for {prior.card.modality}, the protocol for "
            f"{protocol.modality}; choose another prior."
        )
    return prior


def problems_of(
    studies: Sequence[Study], protocol: Protocol, prior: Prior | None, seed: int, device: str
) -> tuple[Problem, ...]:
    """Set up the problem of each study, in the unit of the prior where there is one."""
    intensity = prior.card.intensity if prior else None
    settings: dict[str, Any] = {}
    if protocol.modality == "CT":
        if intensity and intensity.window_hu:
            settings["window_hu"] = intensity.window_hu
        return tuple(ct_problem(s, protocol, device=device, **settings) for s in studies)
    if intensity and intensity.percentile:
        settings["percentile"] = intensity.percentile
    return mr_problems(studies, protocol, seed=seed, device=device, **settings)


def _finish(
    record: dict[str, Any], problem: Problem, image: Tensor, begin: float
) -> dict[str, Any]:
    record["seconds"] = round(time.monotonic() - begin, 2)
    domain = problem.data.operator.domain
    if image.is_complex() == domain.complex and tuple(image.shape) == domain.shape:
        record["misfit"] = round(problem.data.misfit(image), 4)
    return record


def run_baseline(
    spec: Baseline, problem: Problem, images: dict[str, Tensor], record: dict[str, Any]
) -> _Stage:
    """Make one classical reconstruction."""
    if spec.method in problem.direct:
        yield Event(spec.method, 1, 1)
        return problem.direct[spec.method]()
    if spec.method in problem.iterative:
        iterates = problem.iterative[spec.method](spec)
    elif spec.method == "tv":
        kind = problem.data.operator.domain.complex
        start = next((u for u in images.values() if u.is_complex() == kind), None)
        iterates = total_variation(
            problem.data,
            problem.grid.spacing,
            weight=spec.strength,
            iterations=spec.iterations,
            start=start,
        )
    else:
        iterates = cgls(problem.data, iterations=spec.iterations, weight=spec.strength)
    for state in iterates:
        yield Event(spec.method, state.iteration, spec.iterations, state.residual)
    if state.iteration < spec.iterations:
        yield Event(spec.method, spec.iterations, spec.iterations, state.residual)
    record |= {"iterations": state.iteration, "residual": state.residual}
    return state.value


def _sample(
    prior: Prior,
    problem: Problem,
    settings: Sampler,
    images: dict[str, Tensor],
    seed: int,
    record: dict[str, Any],
) -> _Stage:
    """Run the sampler from its start."""
    sampler = assemble(prior, problem, settings, images, seed)
    record |= {"calls": 0, "steps": []}
    for step in sampler.steps():
        record["calls"] = sampler.counted.calls
        record["steps"].append(
            {
                "sigma": step.sigma,
                "residual": step.residual,
                "iterations": step.iterations,
                "outcome": step.outcome.name.lower(),
            }
        )
        yield Event(RESULT, step.index + 1, len(sampler.sigmas), step.residual)
    return step.estimate


def _safeguard(
    prior: Prior,
    problem: Problem,
    protocol: Protocol,
    images: dict[str, Tensor],
    seed: int,
) -> Generator[Event, None, dict[str, Any]]:
    """Look whether the prior fits; puts in the result's place what the look asks for."""
    sampler = protocol.sampler
    tv = next((baseline for baseline in protocol.baselines if baseline.method == "tv"), None)
    if sampler is None:
        return {}
    begin = time.monotonic()
    looking = Safeguard(prior, problem, sampler, tv, seed)(images, images[RESULT])
    while True:
        try:
            done, parts = next(looking)
        except StopIteration as end:
            images[RESULT], verdict = end.value
            break
        yield Event("safety", done, parts)
    record: dict[str, Any] = verdict.as_json()
    return record | {"seconds": round(time.monotonic() - begin, 2)}
