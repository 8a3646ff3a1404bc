"""The command train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from medrecon.cli.options import DeviceOption, SeedOption
from medrecon.cli.paths import existing
from medrecon.cli.words import say
from medrecon.errors import OutputError, UsageError

_CHECKPOINT = "checkpoint.safetensors"


def train(
    slices: Annotated[Path, typer.Argument(metavar="SLICES", help="HDF5 training slices.")],
    validation: Annotated[
        Path, typer.Option(help="HDF5 slices of other patients, to measure the denoising.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Prior folder to make; resumed if there.")
    ],
    modality: Annotated[str, typer.Option(help="ct or mr.")],
    minutes: Annotated[float, typer.Option(min=0.01, help="How long; the schedule follows.")],
    name: Annotated[str, typer.Option(help="Default: the folder's name.")] = "",
    title: Annotated[str, typer.Option(help="What it is for. Default: the name.")] = "",
    sources: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="List of {name, licence, citation} of the data."),
    ] = None,
    widths: Annotated[str, typer.Option(help="Channels per level of the network.")] = "48,96,160",
    blocks: Annotated[int, typer.Option(min=1, max=16, help="Blocks per level.")] = 2,
    learning_rate: Annotated[float, typer.Option(min=1e-7, max=1.0, help="Peak rate.")] = 8e-4,
    pixels_per_step: Annotated[int, typer.Option(min=4096, help="Batch, in pixels.")] = 65536,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Train a slice prior; prints loss and denoising PSNR, and leaves a folder to use as prior."""
    kind = _modality(modality)
    levels = _widths(widths)
    _prior_folder_to_make(output)
    paths = [existing(slices), existing(validation)]

    from medrecon.devices import resolve_device
    from medrecon.io.slices import read_pixel_range, read_slices
    from medrecon.priors import training
    from medrecon.priors.card import Source, read_sources
    from medrecon.priors.export import UNKNOWN_LIMITATIONS, export_prior

    plan = training.TrainingPlan(
        modality=kind,
        minutes=minutes,
        widths=levels,
        blocks=blocks,
        sigma_data=training.SIGMA_DATA[kind],
        learning_rate=learning_rate,
        pixels_per_step=pixels_per_step,
        seed=seed,
    )
    where = resolve_device(device)
    known = read_sources(existing(sources)) if sources else ()
    pixel_mm = read_pixel_range(slices)
    data, held_out = (read_slices(path, kind) for path in paths)
    batch = training.validation_batch(held_out, kind)
    checkpoint = _make_folder(output) / _CHECKPOINT
    for progress in training.train(plan, data, batch, checkpoint, where):
        scores = " ".join(f"{sigma:g}:{psnr:.2f}" for sigma, psnr in progress.psnr.items())
        say(
            f"step {progress.step}, {progress.seconds:.0f} s, loss {progress.loss:.4f}, "
            f"PSNR in dB at sigma {scores}"
        )
    name = name or output.resolve().name
    export_prior(
        checkpoint,
        output,
        plan,
        batch,
        name=name,
        title=title or name,
        sources=known or (Source(name=slices.name, licence="not stated"),),
        pixel_mm=pixel_mm,
        licence="not stated; see the licences of the data",
        limitations=UNKNOWN_LIMITATIONS,
    )
    say(f"{output}: prior {name}; use it with --set prior.name={output}")


def _modality(text: str) -> Literal["ct", "mr"]:
    kinds: dict[str, Literal["ct", "mr"]] = {"ct": "ct", "mr": "mr"}
    if text not in kinds:
        raise UsageError(f"--modality {text!r}: use ct or mr.")
    return kinds[text]


def _widths(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    whole = all(part.strip().isdecimal() and len(part) <= 6 for part in parts)
    widths = tuple(int(part) for part in parts) if whole else ()
    if not 1 <= len(widths) <= 6 or not all(8 <= n <= 4096 and n % 8 == 0 for n in widths):
        raise UsageError(
            f"--widths {text!r}: expected up to six multiples of 8, such as 48,96,160."
        )
    return widths


def _prior_folder_to_make(path: Path) -> None:
    """Accept a free name, an empty folder, or one with a checkpoint to go on from."""
    if not path.absolute().parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; create it first.")
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; a prior is a folder, choose another name.")
    if path.is_dir() and any(path.iterdir()) and not (path / _CHECKPOINT).is_file():
        raise OutputError(f"{path} holds no {_CHECKPOINT} to go on from; choose another name.")


def _make_folder(path: Path) -> Path:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be made: {error.strerror}.") from None
    return path
