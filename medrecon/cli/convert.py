"""The command convert."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from medrecon.cli.options import OverwriteOption
from medrecon.cli.paths import existing
from medrecon.cli.words import say


def convert(
    input_: Annotated[Path, typer.Argument(metavar="INPUT", help="MR measurements: see info.")],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT", help="File to make: .h5 or .mrd (ISMRMRD), .cfl or .hdr (BART)."
        ),
    ],
    image: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="Which image, where INPUT holds several: see info."),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write MR measurements as ISMRMRD or as BART's files.

    Takes ISMRMRD, fastMRI, Siemens twix, BART and NumPy k-space.

    What is written is k-space as it would be reconstructed (sorted,
    averaged, whitened, EPI corrected, oversampling taken off), without
    noise scans and navigators. What OUTPUT cannot hold is named.

    ISMRMRD holds all images of INPUT, BART's files one: NAME.cfl and
    NAME.hdr, NAME_traj and NAME_sens where there are a trajectory or coil
    maps, and NAME.yaml, which says where the volume is.
    """
    path = existing(input_)

    from medrecon.convert import convert as write

    done = write(path, output, label=image, overwrite=overwrite)
    if done.lost:
        warnings.warn(f"{output} does not hold {'; '.join(done.lost)}.", stacklevel=1)
    count = len(done.images)
    say(f"{', '.join(map(str, done.files))}: {count} image{'s' if count > 1 else ''}")
