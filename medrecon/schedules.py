"""Step schedules for a prior and a kind of scan: found on images, kept in the prior's card."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from medrecon.errors import ProtocolError
from medrecon.priors.card import WEIGHTS_FILE, read_card, write_card
from medrecon.priors.weights import prior_folder
from medrecon.problem import Problem
from medrecon.protocol import Protocol
from medrecon.reconstruct import Event, load_for, problems_of, run_baseline
from medrecon.samplers import assemble
from medrecon.sampling.schedule import karras_sigmas
from medrecon.sampling.search import Found, Scan, search
from medrecon.simulate import simulate
from medrecon.sizing import size
from medrecon.volume import Volume

STAGE = "schedule"


def find_schedules(
    images: Sequence[Volume],
    protocol: Protocol,
    steps: Sequence[int],
    *,
    levels: int = 16,
    seed: int = 0,
    device: str = "cpu",
) -> Generator[Event, None, dict[int, Found]]:
    """Find the best noise levels for a protocol, on images that it measures.

    The levels are chosen from Karras' grid between the protocol's ``sigma_start`` and
    ``sigma_end``; see :mod:`medrecon.sampling.search`. The prior runs about ``levels^2 / 2`` times
    on each image.

    Parameters
    ----------
    images
        Volumes to measure, of the size of the protocol's grid; a few slices suffice.
    protocol
        With prior and sampler; what stands for its schedule is not looked at.
    steps
        Numbers of steps.
    levels
        Size of the grid to choose from.
    seed, device
        As for :func:`medrecon.reconstruct.reconstruct`.

    Raises
    ------
    ProtocolError
        If the protocol has no prior or no sampler, or its sampler asks more than once per step.
    """
    settings = protocol.sampler
    prior = load_for(protocol, device)
    if prior is None or settings is None or settings.denoise != "tweedie":
        raise ProtocolError(
            f"The protocol {protocol.name} has no sampler with one call of a prior per step, so "
            "there is no schedule to find; use another protocol."
        )
    scans = []
    for number, image in enumerate(images):
        study = simulate(image, protocol, seed=seed + number)
        truth = image.data if study.reference is None else study.reference
        for problem in problems_of((study,), protocol, prior, seed, device):
            started = yield from _baselines(problem, protocol)
            fitting = size(prior, problem, device).prior
            plain = settings.model_copy(update={"schedule": "karras"})
            sampler = assemble(fitting, problem, plain, started, seed)
            error = partial(_error, problem, truth)
            like = torch.zeros_like(problem.data.rhs)
            scans.append(Scan(sampler.method, sampler.noise, like, error))
    start = min(settings.sigma_start, prior.card.sigma_range[1])
    runs = search(scans, karras_sigmas(levels, start, settings.sigma_end), steps)
    while True:
        try:
            done, total = next(runs)
        except StopIteration as end:
            found: dict[int, Found] = end.value
            return found
        yield Event(STAGE, done, total)


def _baselines(problem: Problem, protocol: Protocol) -> Generator[Event, None, dict[str, Tensor]]:
    """Reconstruct what the sampler may start from."""
    images: dict[str, Tensor] = {}
    for baseline in protocol.baselines:
        images[baseline.method] = yield from run_baseline(baseline, problem, images, {})
    return images


def _error(problem: Problem, reference: Tensor, estimate: Tensor) -> float:
    """Mean squared error of an estimate's volume, of the data range."""
    found = problem.to_volume(estimate).data
    return float((found - reference).square().mean()) / problem.data_range**2


def store_schedules(name: str, output: Path, task: str, found: dict[int, Found]) -> None:
    """Write a prior with schedules for a task in its card.

    Parameters
    ----------
    name
        The prior, by name or folder.
    output
        Folder to write; that of the prior itself has its card replaced.
    task
        What the schedules are for; earlier ones of this task and number of steps are replaced.
    found
        By number of steps.

    Raises
    ------
    WeightsError
        If there is no such prior.
    """
    folder = prior_folder(name)
    card = read_card(folder)
    levels = {n: tuple(float(f"{s:.4g}") for s in schedule.sigmas) for n, schedule in found.items()}
    schedules = {**card.schedules, task: {**card.schedules.get(task, {}), **levels}}
    output.mkdir(parents=True, exist_ok=True)
    if output.resolve() != folder.resolve():
        shutil.copyfile(folder / WEIGHTS_FILE, output / WEIGHTS_FILE)
    write_card(card.model_copy(update={"schedules": schedules}), output)
