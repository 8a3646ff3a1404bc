"""Commands on measurements: run, simulate, validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrecon.cli.options import (
    BackendOption,
    DeviceOption,
    ImageOption,
    OverwriteOption,
    PlotOption,
    ProtocolArgument,
    SeedOption,
    SeriesOption,
    SetOption,
)
from medrecon.cli.paths import existing, free_file, not_standard_input
from medrecon.cli.progress import follow
from medrecon.cli.words import say, show


def run(
    protocol: ProtocolArgument,
    input_: Annotated[Path, typer.Argument(metavar="INPUT", help="Measurements: see info.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")],
    set_: SetOption = [],  # noqa: B006
    device: DeviceOption = "auto",
    backend: BackendOption = None,
    image: ImageOption = [],  # noqa: B006
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Reconstruct measurements: NIfTI, DICOM, preview and run.json."""
    from medrecon.protocol_files import load_protocol

    chosen = [] if backend is None else [f"backend={backend}"]
    settings = load_protocol(protocol, [*set_, *chosen])
    not_standard_input(input_)

    from medrecon.devices import resolve_device

    where = resolve_device(device)
    path = existing(input_)

    from medrecon.images import run_images
    from medrecon.info import check_study
    from medrecon.io.outputs import OutputFolder
    from medrecon.measurements import choose, read_measurements
    from medrecon.safety.last_line import last_lines
    from medrecon.write import output_bytes

    studies = choose(read_measurements(path, settings), image, path)
    for study in studies.values():
        check_study(study, settings)
    needed = sum(output_bytes(study, settings) for study in studies.values())
    with OutputFolder(output, overwrite=overwrite, needed_bytes=needed) as folder:
        files = follow(run_images(studies, settings, folder, seed=seed, device=where), quiet)
    say(f"{output}: {', '.join(files)}")
    for line in last_lines(output):
        say(line)


def simulate(
    protocol: ProtocolArgument,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="NIfTI file or DICOM folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Measurement file to make (.h5).")],
    set_: SetOption = [],  # noqa: B006
    series: SeriesOption = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure an image with a protocol's scanner, and write the measurements."""
    from medrecon.protocol_files import load_protocol

    settings = load_protocol(protocol, set_)
    free_file(output, overwrite)
    path = existing(image)

    from medrecon.io.read import read_image
    from medrecon.simulate import simulate as measure
    from medrecon.simulate import write_study
    from medrecon.volume import Unit

    # NIfTI does not say its unit: a CT protocol takes it as HU.
    unit = Unit.HU if settings.modality == "CT" else Unit.ARBITRARY
    volume, identity = read_image(path, unit=unit, series_number=series)
    study = measure(volume, settings, seed=seed, identity=identity)
    write_study(output, study)
    say(f"{output}: {study.modality} measurements {tuple(study.measurements.shape)}")


def validate(
    protocol: ProtocolArgument,
    input_: Annotated[
        Path | None, typer.Argument(metavar="[INPUT]", help="Check that these data fit, too.")
    ] = None,
    set_: SetOption = [],  # noqa: B006
    plot: PlotOption = None,
) -> None:
    """Check a protocol, and whether measurements fit it, without reconstructing."""
    from medrecon.protocol_files import load_protocol

    settings = load_protocol(protocol, set_)
    if plot is not None:
        free_file(plot, overwrite=False)
    say(f"protocol {settings.name}: valid, {settings.title}")
    if input_ is None:
        if plot is not None:
            from medrecon.picture import draw_protocol

            draw_protocol(settings, plot)
        return
    path = existing(input_)

    from medrecon.info import check_study, describe
    from medrecon.measurements import read_measurements

    studies = read_measurements(path, settings)
    for study in studies:
        check_study(study, settings)
        show(describe(study))
    if plot is not None:
        from medrecon.picture import draw_study

        draw_study(studies[0], plot, settings)
    say(f"{path.name} fits {settings.name}")
