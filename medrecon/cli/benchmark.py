"""The command benchmark."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.cli.options import DeviceOption, JsonOption, SetOption
from medrecon.cli.paths import existing
from medrecon.cli.progress import follow
from medrecon.cli.words import say

if TYPE_CHECKING:
    from medrecon.benchmark import Row
    from medrecon.reconstruct import Event


def benchmark(
    suite: Annotated[
        str,
        typer.Argument(
            metavar="SUITE",
            help="ct-sparse, ct-limited, ct-low-dose, mr-cartesian, mr-poisson, mr-radial, ood "
            "or all.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for rows, table, plot and pictures; goes on where it was.",
        ),
    ] = None,
    cases: Annotated[str, typer.Option(help="Only these, with commas: cone-32,fan-16.")] = "",
    methods: Annotated[
        str, typer.Option(help="Only these, with commas: tv,medrecon@20,dds@50.")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="How many noisy scans.")] = 1,
    slices: Annotated[
        int | None, typer.Option(min=1, max=512, help="Most slices; default: the case's.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="NIfTI file or DICOM folder to measure instead, CT in HU."),
    ] = None,
    data: Annotated[Path, typer.Option(help="The sample scans of the source tree.")] = Path("data"),
    set_: SetOption = [],  # noqa: B006
    device: DeviceOption = "auto",
    quick: Annotated[
        bool, typer.Option("--quick", help="Two cases, two slices: that it works, not how well.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Measure known rows anew.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure every method on simulated scans: quality, network calls, seconds, memory."""
    from medrecon.benchmark import Settings, cases_of
    from medrecon.benchmark import benchmark as measure
    from medrecon.benchmark.report import table, write_report
    from medrecon.devices import resolve_device

    chosen = cases_of(suite, _names(cases))
    settings = Settings(
        data=data,
        image=None if image is None else existing(image),
        methods=_names(methods),
        seeds=seeds,
        slices=slices,
        changes=tuple(set_),
        quick=quick,
        again=again,
        device=resolve_device(device),
    )
    if output is not None:
        _make(output)
    told = measure(chosen, settings, output)
    rows = follow(_saying(told, as_json), quiet=as_json)
    if not as_json:
        say(table(rows))
    if output is not None:
        files = write_report(output, rows)
        if not as_json:
            say(f"{output}: {', '.join(files)}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _make(folder: Path) -> None:
    from medrecon.errors import OutputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}.") from None


def _saying(
    told: Generator[Event | Row, None, list[Row]], as_json: bool
) -> Generator[Event, None, list[Row]]:
    """Print rows as they come, and hand progress on."""
    while True:
        try:
            one = next(told)
        except StopIteration as end:
            rows: list[Row] = end.value
            return rows
        if not isinstance(one, dict):
            yield one
        elif as_json:
            say(json.dumps(one, allow_nan=False))
