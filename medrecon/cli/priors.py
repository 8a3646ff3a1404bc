"""The command priors: what there is, what a card says, and priors of other projects made ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medrecon.cli.options import (
    DeviceOption,
    JsonOption,
    OverwriteOption,
    ProtocolArgument,
    SeedOption,
    SetOption,
)
from medrecon.cli.paths import existing, free_file
from medrecon.cli.words import say, show
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from medrecon.priors.diffusion import Schedule, ScheduleKind

app = typer.Typer(help="List the trained priors that come with medrecon, show one, or import one.")


@app.callback(invoke_without_command=True)
def priors(context: typer.Context) -> None:
    """List the trained priors that come with medrecon, show one, or import one."""
    if context.invoked_subcommand is not None:
        return

    from medrecon.priors.weights import shipped_priors

    for card in shipped_priors():
        say(f"{card.name}  {card.title}; {card.modality}, {card.licence}")


@app.command("show")
def show_prior(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped prior or a folder.")],
    as_json: JsonOption = False,
) -> None:
    """Show the card of a prior: what it was trained on and how well it denoises."""
    from medrecon.priors.card import read_card
    from medrecon.priors.weights import prior_folder

    card = read_card(prior_folder(name))
    if as_json:
        say(json.dumps(card.model_dump(mode="json"), indent=2, allow_nan=False))
        return
    facts = card.model_dump(mode="json", exclude={"validation", "validation_ood"})
    show({key: _in_words(value) for key, value in facts.items() if value not in (None, {}, [])})
    levels = [("validation", card.validation), *card.validation_ood.items()]
    for title, table in levels:
        pairs = ", ".join(f"{level.psnr_db:.1f} dB at {level.sigma:g}" for level in table)
        say(f"{title}: {pairs}")


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Weights: .safetensors, .pt, .pth or a folder.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Prior folder to make.")],
    modality: Annotated[Literal["ct", "mr"], typer.Option(help="What the images are of.")],
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="CT: the HU at both ends of the network's range."),
    ] = None,
    predicts: Annotated[
        Literal["eps", "v", "x0", "score", "edm"] | None,
        typer.Option(help="What the network's output is; default: found by trial."),
    ] = None,
    schedule: Annotated[
        Literal["linear", "scaled-linear", "cosine", "vp", "ve"] | None,
        typer.Option(help="Its noise levels; default: as the file says, or found by trial."),
    ] = None,
    span: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="FIRST LAST", help="First and last beta, for ve sigma, of these."),
    ] = None,
    range_: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--range",
            metavar="LOW HIGH",
            help="Values of its training images: -1 1 or 0 1; else tried.",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=16, max=1024, help="Pixels a side of its training slices.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings of its training, JSON or YAML.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="Measure its errors on this image, not on phantoms."),
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Its training data: [{name, licence, citation}]."),
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights.")] = None,
    title: Annotated[str | None, typer.Option(help="One line on the prior.")] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read a pickle, confined to its tensors.")
    ] = False,
) -> None:
    """Make a prior of another project's network: recognised, tried on a phantom, or refused."""
    paths = [existing(path) for path in (file, config, image, sources) if path is not None]
    free_file(output, overwrite=False)

    from medrecon.importing.checkpoint import read_config
    from medrecon.importing.importer import Request, describe, import_prior
    from medrecon.importing.probe import Told
    from medrecon.priors.card import read_sources

    settings: dict[str, Any] = {
        "title": title,
        "licence": licence,
        "config": read_config(config) if config else None,
        "sources": read_sources(sources) if sources else None,
    }
    request = Request(
        modality="CT" if modality == "ct" else "MR",
        name=output.name,
        window_hu=window,
        told=Told(parametrisation=predicts, schedule=_schedule(schedule, span), range=range_),
        size=size,
        allow_pickle=allow_pickle,
        image=image,
        **{key: value for key, value in settings.items() if value is not None},
    )
    say(f"{paths[0].name}: trying it on a phantom")
    trials = import_prior(file, output, request)
    while True:
        try:
            trial = next(trials)
        except StopIteration as end:
            show(describe(end.value))
            break
        if trial.rises:
            say(f"{trial.gain:+.1f} dB as {trial.in_words()}")
    say(f"{output}: prior {output.name}; use it with --set prior.name={output}")


@app.command("schedule")
def schedule_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped prior or a folder.")],
    protocol: ProtocolArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Volumes to measure: a few slices.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Prior folder to write.")],
    task: Annotated[str, typer.Option(help="What to call these schedules, e.g. ct-sparse.")],
    steps: Annotated[str, typer.Option(help="Numbers of steps.")] = "4,6,8,10,15,20",
    levels: Annotated[int, typer.Option(min=2, max=200, help="Noise levels to choose from.")] = 24,
    set_: SetOption = [],  # noqa: B006
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Find the best noise levels for a protocol's scans and keep them in a copy of the prior."""
    if not all(word.strip().isascii() and word.strip().isdigit() for word in steps.split(",")):
        raise UsageError(f"--steps {steps!r}: write whole numbers with commas, like 4,8,20.")
    numbers = [int(word) for word in steps.split(",")]
    if not all(1 <= number <= levels for number in numbers):
        raise UsageError(f"--steps {steps}: every number must be from 1 to --levels ({levels}).")
    paths = [existing(path) for path in images]
    free_file(output, overwrite)

    from medrecon.cli.progress import follow
    from medrecon.devices import resolve_device
    from medrecon.io.read import read_image
    from medrecon.protocol_files import load_protocol
    from medrecon.schedules import find_schedules, store_schedules
    from medrecon.volume import Unit

    settings = load_protocol(protocol, [*set_, f"prior.name={name}"])
    unit = Unit.HU if settings.modality == "CT" else Unit.ARBITRARY
    volumes = [read_image(path, unit=unit)[0] for path in paths]
    where = resolve_device(device)
    runs = find_schedules(volumes, settings, numbers, levels=levels, seed=seed, device=where)
    found = follow(runs, quiet=False)
    store_schedules(name, output, task, found)
    for number, schedule in found.items():
        course = " ".join(f"{sigma:.3g}" for sigma in schedule.sigmas)
        say(f"{number} steps: {course}; {schedule.gain_db:+.2f} dB beside Karras' levels")
    say(f"{output}: use with --set prior.name={output} --set sampler.schedule=stored")


def _schedule(kind: ScheduleKind | None, span: tuple[float, float] | None) -> Schedule | None:
    """Noise levels as the command line says them."""
    from medrecon.priors.diffusion import make_schedule

    if kind is None and span is not None:
        raise UsageError("--span belongs to a --schedule; give both.")
    return None if kind is None else make_schedule(kind, span)


def _in_words(value: Any) -> Any:
    """Write ranges and lists of sources for people; blocks stay blocks."""
    if isinstance(value, dict):
        return {key: _in_words(item) for key, item in value.items() if item is not None}
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return "; ".join(f"{item['name']} ({item['licence']})" for item in value)
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], float):
        return f"{value[0]:g} to {value[1]:g}"
    return value
