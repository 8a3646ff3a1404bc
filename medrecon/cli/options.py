"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

ProtocolArgument = Annotated[
    str, typer.Argument(metavar="PROTOCOL", help="A YAML file or the name of a shipped protocol.")
]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting: sampler.steps=10."),
]
SeedOption = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of all randomness.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SeriesOption = Annotated[
    int | None,
    typer.Option(metavar="NUMBER", help="Which series of a DICOM folder that holds several."),
]
PlotOption = Annotated[
    Path | None, typer.Option(metavar="FILE.png", help="CT: draw the geometry into this picture.")
]
BackendOption = Annotated[
    Literal["native", "matrix", "triton", "astra"] | None,
    typer.Option(help="CT projector; default: the protocol's."),
]
ImageOption = Annotated[
    list[str],
    typer.Option("--image", metavar="LABEL", help="Only this image of the file (see info)."),
]
