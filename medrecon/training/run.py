"""A training run: steps, scores, the best weights, and a checkpoint to go on from."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch.utils.data import DataLoader

from medrecon.devices import has_fast_bfloat16
from medrecon.errors import InconsistentError, OutputError
from medrecon.io.outputs import write_json
from medrecon.priors.card import CARD_FILE, WEIGHTS_FILE
from medrecon.training.batches import Batch, Batches
from medrecon.training.judge import Judge, Scores
from medrecon.training.plots import draw_progress
from medrecon.training.settings import Recipe
from medrecon.training.sources import Source
from medrecon.training.state import State, load_state, new_state, save_state
from medrecon.training.step import Denoise, train_step

CHECKPOINT = "checkpoint.safetensors"
HISTORY = "history.json"
PICTURE = "progress.png"
_CANDIDATE = ".candidate"
_TIMED = (4, 24)  # between these steps a run in minutes is timed
_SAVE_SECONDS = 300.0
_POINTS = 400  # of the loss curve


@dataclass(frozen=True)
class Report:
    """Where a run stands.

    Parameters
    ----------
    step
        Steps made.
    steps
        Of the whole run; ``None`` while it is timed.
    seconds
        Spent, over all restarts.
    loss
        Running mean, about 1 for an untrained network; ``None`` before the first step.
    scores
        Of the averaged weights, after a validation; else ``None``.
    best
        Whether these are the best weights so far.
    """

    step: int
    steps: int | None
    seconds: float
    loss: float | None
    scores: Scores | None = None
    best: bool = False


def train(
    recipe: Recipe, source: Source, judge: Judge, folder: Path, *, device: str = "cpu"
) -> Iterator[Report]:
    """Train a prior; yields a report after every step.

    The best weights so far stand in ``folder`` as a prior that can be used. A run that was killed
    goes on from its checkpoint to the bits that it would have reached uninterrupted: every step
    draws from a seed of its own. (On the same machine, device and number of threads.)

    Parameters
    ----------
    recipe
        The run.
    source
        Where clean slices come from.
    judge
        Scores weights.
    folder
        An existing folder: gets the checkpoint, the best prior, ``history.json`` and
        ``progress.png``.
    device
        Torch device.

    Yields
    ------
    Report
        After every step; with scores after those that were validated.

    Raises
    ------
    InconsistentError
        If the loss is no longer finite.
    WeightsError
        If the checkpoint is damaged or of another network.
    OutputError
        If the folder cannot be written.
    """
    state = new_state(recipe, device)
    if (folder / CHECKPOINT).exists():
        load_state(state, folder / CHECKPOINT)
    denoise: Denoise = state.model
    if recipe.optimiser.compile:
        denoise = cast("Denoise", torch.compile(state.model, dynamic=False))
    clock = _Clock(state.seconds)
    if state.step == 0:
        _plan(state, recipe, seconds_per_step=None)
        if recipe.network.initial is not None or state.steps == 0:  # else there is nothing to see
            yield _judge(state, recipe, judge, folder, clock)
    saved = time.monotonic()
    for batch in _batches(state, recipe, source, device):
        if state.step == _TIMED[0]:
            clock.lap()
        _step(state, denoise, batch, recipe, device)
        if state.steps is None and state.step == _TIMED[1]:
            per_step = clock.lap() / (_TIMED[1] - _TIMED[0])
            _plan(state, recipe, seconds_per_step=per_step)
        state.seconds = clock.total()
        due = state.validate_every and state.step % state.validate_every == 0
        if due or state.step == state.steps:
            yield _judge(state, recipe, judge, folder, clock)
        else:
            yield Report(state.step, state.steps, state.seconds, state.loss)
        if due or time.monotonic() - saved > _SAVE_SECONDS:
            save_state(state, folder / CHECKPOINT)
            saved = time.monotonic()
    save_state(state, folder / CHECKPOINT)


class _Clock:
    """Seconds of a run over its restarts, and between two laps."""

    def __init__(self, before: float) -> None:
        self._before = before
        self._start = self._lap = time.monotonic()

    def total(self) -> float:
        return self._before + time.monotonic() - self._start

    def lap(self) -> float:
        last, self._lap = self._lap, time.monotonic()
        return self._lap - last


def _plan(state: State, recipe: Recipe, *, seconds_per_step: float | None) -> None:
    """Decide the steps of the run, once: the schedule of a run in minutes survives a restart."""
    budget, validation = recipe.budget, recipe.validation
    if budget.steps is not None:
        state.steps = budget.steps
    elif seconds_per_step is not None:
        assert budget.minutes is not None
        state.steps = max(state.step, round(60 * budget.minutes / seconds_per_step))
    if validation.every_steps is not None:
        state.validate_every = validation.every_steps
    elif validation.every_minutes is not None and seconds_per_step is not None:
        state.validate_every = max(1, round(60 * validation.every_minutes / seconds_per_step))
    elif validation.every_minutes is None and state.steps:
        state.validate_every = max(1, state.steps // 10)


def _batches(state: State, recipe: Recipe, source: Source, device: str) -> Iterator[Batch]:
    """Batches from the state's step to the last; those before the plan do not know its length."""
    while state.steps is None or state.step < state.steps:
        last = _TIMED[1] if state.steps is None else state.steps
        data = Batches(source, recipe, state.steps)
        loader: DataLoader[Batch] = DataLoader(
            data,
            batch_size=None,
            sampler=range(state.step, last),
            num_workers=recipe.optimiser.workers,
            pin_memory=torch.device(device).type == "cuda",
        )
        for batch in loader:
            yield Batch(*(values.to(device, non_blocking=True) for values in batch))


def _step(state: State, denoise: Denoise, batch: Batch, recipe: Recipe, device: str) -> None:
    settings = recipe.optimiser
    mixed = settings.precision == "bfloat16" or (
        settings.precision == "auto" and has_fast_bfloat16(device)
    )
    with torch.backends.cudnn.flags(deterministic=True):  # or a restart would not be the same
        loss = train_step(state, denoise, batch, settings, mixed=mixed)
    if not math.isfinite(loss):
        raise InconsistentError(
            f"The loss is no longer finite at step {state.step}; lower optimiser.learning_rate and "
            "train into another folder."
        )
    state.loss = loss if state.loss is None else 0.99 * state.loss + 0.01 * loss
    if state.step % max(1, (state.steps or 1) // _POINTS) == 0:
        state.losses.append((state.step, round(state.loss, 6)))


def _judge(state: State, recipe: Recipe, judge: Judge, folder: Path, clock: _Clock) -> Report:
    """Score the averaged weights and keep them if they are the best so far."""
    with _without_randomness(), _folder(folder / _CANDIDATE) as candidate:
        scores = judge(state.average, candidate)
        best = state.best is None or scores.value > state.best
        if best:
            state.best = scores.value
            for name in (WEIGHTS_FILE, CARD_FILE):
                (candidate / name).replace(folder / name)
    state.seconds = clock.total()
    state.history.append({"step": state.step, "loss": state.loss, **scores.as_json()})
    write_json(folder / HISTORY, {"recipe": recipe.model_dump(mode="json"), "rows": state.history})
    draw_progress(state.history, state.losses, folder / PICTURE)
    return Report(state.step, state.steps, state.seconds, state.loss, scores, best)


@contextmanager
def _without_randomness() -> Iterator[None]:
    """Leave torch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        yield


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be made: {error.strerror}.") from None
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
