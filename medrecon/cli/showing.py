"""The command demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrecon.cli.options import DeviceOption, SeedOption
from medrecon.cli.progress import follow
from medrecon.cli.words import say

_PLANES = ("axial", "coronal", "sagittal")


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")] = Path(
        "out/demo"
    ),
    data: Annotated[Path, typer.Option(help="The sample scans of the source tree.")] = Path("data"),
    quick: Annotated[
        bool, typer.Option("--quick", help="A few slices and steps: that it works, not how well.")
    ] = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Reconstruct a real chest CT and a real brain MR beside the classical methods."""
    from medrecon.demo import demo as events
    from medrecon.devices import resolve_device

    where = resolve_device(device)
    summary = follow(events(output, data, quick=quick, seed=seed, device=where), quiet=False)
    for case, methods in summary.items():
        say(f"\n{case:16}  PSNR dB   SSIM: {'axial':>7} {'coronal':>8} {'sagittal':>8}   seconds")
        for method, figures in methods.items():
            planes = figures["ssim_per_plane"]
            shown = [f"{planes[p]:.4f}" if p in planes else "-" for p in _PLANES]
            say(
                f"  {method:14}  {figures['psnr']:7.2f}         {shown[0]:>7} {shown[1]:>8} "
                f"{shown[2]:>8}   {figures['seconds']:7.1f}"
            )
    say(f"\n{output}: pictures (preview.png), volumes and summary.json")
