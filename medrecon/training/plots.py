"""The picture of a run: its loss, its denoising and its reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medrecon.io.outputs import whole_file


def draw_progress(
    history: Sequence[dict[str, Any]], losses: Sequence[tuple[int, float]], path: Path
) -> None:
    """Draw a run as PNG: loss, PSNR at every noise level, and the reconstruction beside TV.

    Parameters
    ----------
    history
        Rows ``{step, psnr: {sigma: dB}, downstream: {prior, tv}}``.
    losses
        ``(step, loss)``.
    path
        The file to make.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.2), dpi=100, layout="constrained")
    loss, denoising, downstream = figure.subplots(1, 3)
    if losses:
        loss.semilogy(*zip(*losses, strict=True), color="#0b3c5d")
    loss.set(xlabel="step", ylabel="loss, running mean", title="Training")
    steps = [row["step"] for row in history]
    for sigma in history[0]["psnr"] if history else ():
        denoising.plot(steps, [row["psnr"][sigma] for row in history], marker=".", label=sigma)
    denoising.set(xlabel="step", ylabel="PSNR, dB", title="Denoising of held-out slices")
    if history:
        denoising.legend(title="sigma", fontsize="small")
    scored = [row for row in history if "downstream" in row]
    for name, colour in (("prior", "#c1272d"), ("tv", "#3a7d44")):
        values = [row["downstream"][name] for row in scored]
        downstream.plot([r["step"] for r in scored], values, marker=".", label=name, color=colour)
    downstream.set(xlabel="step", ylabel="PSNR, dB", title="Reconstruction of held-out slices")
    if scored:
        downstream.legend()
    else:
        downstream.text(0.5, 0.5, "none in the recipe", ha="center", transform=downstream.transAxes)
    with whole_file(path) as part:
        figure.savefig(part, format="png")
