"""The command train."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.cli.options import DeviceOption, SetOption
from medrecon.cli.words import say
from medrecon.errors import MedreconError, OutputError

if TYPE_CHECKING:
    from medrecon.training.run import Report

_CHECKPOINT = "checkpoint.safetensors"
_SECONDS = 20.0  # between two lines of a run that has nothing new to say


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A YAML file or the name of a shipped recipe.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Prior folder to make; a run there goes on.")
    ],
    set_: SetOption = [],  # noqa: B006
    device: DeviceOption = "auto",
) -> None:
    """Train a slice prior by a recipe; leaves a folder with weights and card to use as prior."""
    _prior_folder_to_make(output)

    from medrecon.training.recipe_files import load_recipe

    settings = load_recipe(recipe, set_)

    from medrecon.devices import resolve_device
    from medrecon.training.command import run_recipe

    where = resolve_device(device)
    last = time.monotonic()
    try:
        for report in run_recipe(settings, output, device=where):
            if report.scores is not None or time.monotonic() - last > _SECONDS:
                last = time.monotonic()
                say(_line(report))
    except KeyboardInterrupt:
        raise _InterruptedError(
            "interrupted; the same command goes on from the last checkpoint."
        ) from None
    say(f"{output}: prior {settings.name}; use it with --set prior.name={output}")


class _InterruptedError(MedreconError):
    """A run that was stopped from the keyboard and can go on."""

    exit_code = 130


def _line(report: Report) -> str:
    """Say where a run stands, in one line."""
    of = "" if report.steps is None else f"/{report.steps}"
    text = f"step {report.step}{of}, {report.seconds:.0f} s"
    if report.loss is not None:
        text += f", loss {report.loss:.4f}"
    if report.steps and report.step:
        left = report.seconds / report.step * (report.steps - report.step)
        text += f", {left / 60:.0f} min left" if left else ""
    if report.scores is None:
        return text
    scores = " ".join(f"{sigma:g}:{psnr:.2f}" for sigma, psnr in report.scores.psnr.items())
    text += f", PSNR in dB at sigma {scores}"
    if (found := report.scores.downstream) is not None:
        text += f", reconstruction {found.prior:.2f} dB (tv {found.tv:.2f})"
    return text + (", best so far" if report.best else "")


def _prior_folder_to_make(path: Path) -> None:
    """Accept a free name, an empty folder, or one with a checkpoint to go on from."""
    if not path.absolute().parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; create it first.")
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; a prior is a folder, choose another name.")
    if path.is_dir() and any(path.iterdir()) and not (path / _CHECKPOINT).is_file():
        raise OutputError(f"{path} holds no {_CHECKPOINT} to go on from; choose another name.")
