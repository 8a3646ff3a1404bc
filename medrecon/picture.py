"""Pictures of a scan's geometry, as PNG files."""

from __future__ import annotations

from pathlib import Path

from medrecon.errors import UsageError
from medrecon.geometry import CTGeometry, MRGeometry
from medrecon.grid import Grid
from medrecon.io.outputs import whole_file
from medrecon.protocol import MRScan, Protocol
from medrecon.scanner import grid_of, scanner
from medrecon.study import Study
from medrecon.volume import Volume


def draw_study(found: Study | Volume, path: Path, protocol: Protocol | None = None) -> None:
    """Draw how measurements were taken, with the volume where it is known.

    Raises
    ------
    UsageError
        If they are no CT measurements.
    OutputError
        If the picture cannot be written.
    """
    if not isinstance(found, Study) or isinstance(found.geometry, MRGeometry):
        raise UsageError("--plot draws the geometry of CT measurements; this is none.")
    grid = (grid_of(protocol) if protocol else None) or found.grid
    _draw(found.geometry, grid, path)


def draw_protocol(protocol: Protocol, path: Path) -> None:
    """Draw the scanner and the volume of a CT protocol.

    Raises
    ------
    UsageError
        If it is an MR protocol.
    OutputError
        If the picture cannot be written.
    """
    if isinstance(protocol.acquisition, MRScan):
        raise UsageError("--plot draws the geometry of CT protocols; this one is for MR.")
    _draw(scanner(protocol.acquisition), grid_of(protocol), path)


def _draw(geometry: CTGeometry, grid: Grid | None, path: Path) -> None:
    figure = geometry.plot(grid)
    with whole_file(path) as part:
        figure.savefig(part, format="png")
