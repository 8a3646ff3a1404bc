"""Commands that only look: info, compare, protocols, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from medrecon.cli.options import JsonOption, PlotOption, SeriesOption
from medrecon.cli.paths import existing, free_file
from medrecon.cli.words import say, show


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Measurements, image or series.")],
    as_json: JsonOption = False,
    plot: PlotOption = None,
    series: SeriesOption = None,
) -> None:
    """Say what a file holds: every image, geometry, sampling, voxels; never whose it is."""
    path = existing(file)
    if plot is not None:
        free_file(plot, overwrite=False)

    from medrecon.info import condense, describe, look

    found = look(path, series)
    if plot is not None:
        from medrecon.picture import draw_study

        draw_study(found[0] if isinstance(found, tuple) else found, plot)
    facts = describe(found)
    if as_json:
        say(json.dumps(facts, indent=2, allow_nan=False))
    else:
        show(condense(facts))


def protocols() -> None:
    """List the protocols that come with medrecon."""
    from medrecon.protocol_files import shipped_protocols

    show(shipped_protocols())


def compare(
    image: Annotated[Path, typer.Argument(metavar="A", help="The volume that is judged.")],
    reference: Annotated[Path, typer.Argument(metavar="B", help="The volume that is true.")],
    data_range: Annotated[
        float | None, typer.Option(help="Range for PSNR and SSIM; default: max - min of B.")
    ] = None,
    series: SeriesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two volumes: PSNR, SSIM, NRMSE, with the data range said."""
    paths = [existing(image), existing(reference)]

    from medrecon.compare import compare as measure
    from medrecon.io.read import read_image

    first, second = (read_image(path, series_number=series)[0] for path in paths)
    metrics = measure(first, second, data_range)
    if as_json:
        say(json.dumps(metrics.as_json(), indent=2, allow_nan=False))
        return
    say(f"PSNR   {metrics.psnr:.2f} dB")
    for plane, value in metrics.ssim_per_plane.items():
        say(f"SSIM   {value:.4f} ({plane})")
    say(f"NRMSE  {metrics.nrmse:.4f}")
    say(f"range  {metrics.data_range:g}")


def doctor() -> None:
    """Report versions, devices, memory, disk and optional parts of this installation."""
    from medrecon.doctor import examine

    for section, facts in examine(Path.cwd()).items():
        say(f"[{section}]")
        show(facts)
