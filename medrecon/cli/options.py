"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

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
