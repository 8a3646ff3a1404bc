"""A picture of a scan: source path, detector, field of view and volume, from above and the side."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from medrecon.geometry.field import FieldOfView, field_of_view, has_rows
from medrecon.geometry.frames import Array, Frames, HasFrames

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from medrecon.grid import Grid

X, Y, Z = 0, 1, 2
_SOURCE, _FIRST, _LAST, _FIELD, _VOLUME = "#c1272d", "#0b3c5d", "#7fa7c9", "#3a7d44", "#6b4c9a"
_ARC_CELLS = 33  # points along a curved detector: a polygon that looks round
_STANDOFF = 1.3  # a parallel detector is drawn this many field radii behind the axis


def plot(geometry: HasFrames, grid: Grid | None = None) -> Figure:
    """Draw a scan in the scanner's frame, LPS mm.

    Left: seen from the patient's feet, x to the right (the patient's left) and y down (posterior).
    Right: seen from the patient's left side, y and z. The source's path, the detector with the
    outermost rays of the first view, the detector of the last view, the field of view, and the
    volume.

    Parameters
    ----------
    geometry
        Any CT geometry.
    grid
        The volume, in the scanner's frame.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window; ``figure.savefig("scan.png")`` writes it.
    """
    from matplotlib.figure import Figure

    frame, field = geometry.frames(), field_of_view(geometry)
    figure = Figure(figsize=(11, 5.6), dpi=110, layout="constrained")
    top, side = figure.subplots(1, 2)
    for axes, across, along in ((top, X, Y), (side, Y, Z)):
        _draw(axes, frame, field, grid, across, along)
    _circle(top, field)
    if has_rows(geometry):
        _cylinder(side, field)
    _label(top, "x, mm (to the patient's left)", "y, mm (to posterior)", "seen from the feet")
    top.invert_yaxis()
    _label(side, "y, mm (to posterior)", "z, mm (to superior)", "seen from the left side")
    figure.suptitle(f"{type(geometry).__name__}, {frame.views} views")
    handles, labels = top.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    return figure


def _draw(
    axes: Axes, frame: Frames, field: FieldOfView, grid: Grid | None, across: int, along: int
) -> None:
    if frame.source is not None:
        path = frame.source
        axes.plot(path[:, across], path[:, along], color=_SOURCE, lw=1, label="source path")
        axes.plot(path[0, across], path[0, along], "o", color=_SOURCE, ms=5)
    for view, color, name in ((-1, _LAST, "last view"), (0, _FIRST, "first view")):
        outline, starts, ends = _detector(frame, field, view)
        axes.plot(outline[:, across], outline[:, along], color=color, lw=2.5, label=name)
        for start, end in zip(starts, ends, strict=True):
            pair = np.stack([start, end])
            axes.plot(pair[:, across], pair[:, along], color=color, lw=0.8, ls=":")
    if grid is not None:
        for index, edge in enumerate(_edges(grid)):
            label = "volume" if index == 0 else None
            axes.plot(edge[:, across], edge[:, along], color=_VOLUME, lw=1.2, label=label)
    axes.plot(0, 0, "+", color="black", ms=9, label="isocentre")


def _detector(frame: Frames, field: FieldOfView, view: int) -> tuple[Array, Array, Array]:
    """Outline of the detector ``(n, 3)`` at a view, and where its outermost rays start and end."""
    columns = np.linspace(-0.5, frame.columns - 0.5, _ARC_CELLS)
    bottom, top = -0.5, frame.rows - 0.5
    outline = np.concatenate(
        [frame.cells(bottom, columns)[view], frame.cells(top, columns[::-1])[view]]
    )
    corners = outline[[0, _ARC_CELLS - 1, _ARC_CELLS, 2 * _ARC_CELLS - 1]]
    if frame.source is not None:
        starts = np.broadcast_to(frame.source[view], corners.shape)
    else:
        behind = _STANDOFF * max(field.radius, 1e-3) * frame.direction[view]  # type: ignore[index]
        outline, corners, starts = outline + behind, corners + behind, corners - behind
    return np.concatenate([outline, outline[:1]]), starts, corners


def _edges(grid: Grid) -> Array:
    """Return the twelve edges of the volume's box ``(12, 2, 3)``, at the outer faces of voxels."""
    nz, ny, nx = grid.shape
    low = np.array([-0.5, -0.5, -0.5])
    high = np.array([nz - 0.5, ny - 0.5, nx - 0.5])
    edges = []
    for axis, (p, q) in product(range(3), product((False, True), repeat=2)):
        end = np.insert([p, q], axis, False)
        start = np.where(end, high, low)
        stop = start.copy()
        stop[axis] = high[axis]
        edges.append([start, stop])
    corners = np.concatenate([np.array(edges), np.ones((12, 2, 1))], axis=-1)
    return np.asarray((corners @ grid.affine.T)[..., :3])


def _circle(axes: Axes, field: FieldOfView) -> None:
    """Field of view from above; dashed where only one side of the detector sees so far."""
    from matplotlib.patches import Circle

    axes.add_patch(
        Circle((0, 0), field.radius, fill=False, ec=_FIELD, lw=1.2, label="field of view")
    )
    if field.radius_of_both_sides < 0.99 * field.radius:
        axes.add_patch(
            Circle((0, 0), field.radius_of_both_sides, fill=False, ec=_FIELD, lw=1, ls="--")
        )


def _cylinder(axes: Axes, field: FieldOfView) -> None:
    from matplotlib.patches import Rectangle

    size: Any = (2 * field.radius, field.high - field.low)
    axes.add_patch(Rectangle((-field.radius, field.low), *size, fill=False, ec=_FIELD, lw=1.2))


def _label(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set(xlabel=x, ylabel=y, title=title, aspect="equal")
    axes.set_adjustable("datalim")
    axes.grid(visible=True, lw=0.3)
