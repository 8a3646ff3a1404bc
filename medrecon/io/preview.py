"""A PNG to look at: three planes of every method, one under the other, in the same window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.io.orientation import nearest_axial
from medrecon.io.outputs import whole_file
from medrecon.volume import Volume

_ROW_INCHES = 3.0
_DPI = 110
_MAX_METHODS = 16
_THICK = 4  # slices from which coronal and sagittal planes show anything


def write_preview(
    path: Path, volumes: Mapping[str, Volume], *, low: float, high: float, title: str = ""
) -> None:
    """Draw the middle axial, coronal and sagittal plane of every volume.

    Lengths are to scale (mm), anterior is up in the axial plane and superior in the others; the
    patient's left is on the right, as radiologists look at it.  An oblique volume is shown along
    its own axes, which are named by the nearest direction.  Of stacks of fewer than four slices
    only the axial plane is drawn.

    Parameters
    ----------
    path
        The PNG file to make, whole or not at all.
    volumes
        Name of the method to its volume, in the order of the rows.
    low, high
        Values shown black and white, in the volumes' unit.
    title
        Written above everything.

    Raises
    ------
    InconsistentError
        If there is nothing to show or the window is empty.
    OutputError
        If the file cannot be written.
    """
    # matplotlib takes half a second to import and is needed only here.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not 1 <= len(volumes) <= _MAX_METHODS:
        raise InconsistentError(f"A preview shows 1 to {_MAX_METHODS} volumes, got {len(volumes)}.")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InconsistentError(f"A preview's window must have low < high, got {low} and {high}.")
    axial = [nearest_axial(volume) for volume in volumes.values()]
    shown = 3 if any(volume.grid.shape[0] >= _THICK for volume in axial) else 1
    rows = [_planes(volume)[:shown] for volume in axial]
    widths = [max(row[i].width for row in rows) for i in range(shown)]
    heights = [max(plane.height for plane in row) for row in rows]
    scale = _ROW_INCHES / max(heights)
    figure = Figure(
        figsize=(max(sum(widths) * scale, 4.0), sum(heights) * scale + 0.5), facecolor="black"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(rows), shown, squeeze=False, width_ratios=widths, height_ratios=heights
    )
    for line, name, row in zip(axes, volumes, rows, strict=True):
        for ax, plane in zip(line, row, strict=True):
            _draw(ax, plane, low, high)
        _write(line[0], 0.02, 0.98, name[:60], va="top", size=9, color="yellow")
    unit = next(iter(volumes.values())).unit.value
    caption = f"{title}  [{low:g}, {high:g}] {unit}  research use, not for diagnosis".strip()
    figure.text(0.5, 0.005, caption, color="white", size=8, ha="center", parse_math=False)
    figure.subplots_adjust(0, 0.3 / figure.get_figheight(), 1, 1, 0.01, 0.01)
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=_DPI, metadata={"Software": None})


class _Plane:
    """One plane as shown: pixel rows downwards, and the size of the picture in mm."""

    def __init__(
        self, pixels: NDArray[np.float32], spacing: tuple[float, float], letters: str
    ) -> None:
        self.pixels = pixels
        self.height = pixels.shape[0] * spacing[0]
        self.width = pixels.shape[1] * spacing[1]
        self.left, self.top = letters[0], letters[1]


def _planes(volume: Volume) -> tuple[_Plane, _Plane, _Plane]:
    """Axial, coronal and sagittal middle of a volume in axial order (x to L, y to P, z to S)."""
    data = volume.data.detach().cpu().float().numpy()
    dz, dy, dx = volume.grid.spacing
    z, y, x = (n // 2 for n in data.shape)
    return (
        _Plane(data[z], (dy, dx), "RA"),
        _Plane(data[::-1, y], (dz, dx), "RS"),
        _Plane(data[::-1, :, x], (dz, dy), "AS"),
    )


def _draw(ax: Any, plane: _Plane, low: float, high: float) -> None:
    ax.imshow(
        plane.pixels,
        cmap="gray",
        vmin=low,
        vmax=high,
        extent=(0, plane.width, 0, plane.height),
        interpolation="nearest",
    )
    ax.set_axis_off()
    _write(ax, 0.01, 0.5, plane.left, va="center")
    _write(ax, 0.5, 0.99, plane.top, va="top", ha="center")


def _write(ax: Any, x: float, y: float, text: str, **how: Any) -> None:
    style: dict[str, Any] = {"color": "white", "size": 7, "transform": ax.transAxes}
    ax.text(x, y, text, parse_math=False, **(style | how))
