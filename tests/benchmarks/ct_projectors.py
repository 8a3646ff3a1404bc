"""How many CPU-seconds do the CT projectors take, beside those of other packages?

Cases: G2, fan beam, 512 x 512, 736 columns x 360 views, 32 slices (seconds per slice) and one; G3,
cone beam, 128^3, 128 rows x 192 columns x 90 views.  With ``--sizes`` also 128, 192 and 256 pixels
or voxels a side for both, 90 views, and the time per voxel and view, which ought to be constant.
With ``--compile`` the first call of a fresh installation, in a process of its own.

CPU-seconds, because machines are shared; the best of a few runs.  The adjoint error is
``|<Ax, Ax> - <x, A^T A x>| / |Ax|^2``.  ASTRA, RTK (``itk-rtk``) and deepinv take part where they
are installed.

    python -m tests.benchmarks.ct_projectors [--json] [--threads N] [--repeats N] [--sizes]
        [--compile] [--plot FILE.png]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from medrecon.geometry.ct import ConeBeam, FanBeam, equiangular
from medrecon.grid import Grid
from medrecon.operators.base import LinearOperator
from medrecon.operators.ct import projector
from tests.benchmarks import ct_rivals

Map = Callable[[Tensor], Tensor]
Row = dict[str, str | float]

SLICES = 32
FAN = FanBeam(
    angles=equiangular(360),
    source_to_axis=850.0,
    source_to_detector=1550.0,
    columns=736,
    column_spacing=1.43,
)
CONE = ConeBeam(
    angles=equiangular(90),
    source_to_axis=212.5,
    source_to_detector=387.5,
    rows=128,
    columns=192,
    row_spacing=1.43,
    column_spacing=1.43,
)
G2 = Grid.centred((SLICES, 512, 512), (1.0, 1.0, 1.0))
G3 = Grid.centred((128, 128, 128), (1.0, 1.0, 1.0))
SIZES = (128, 192, 256)


def cpu_seconds(function: Map, x: Tensor, repeats: int) -> tuple[float, Tensor]:
    """Best CPU time of a few runs; the first, which compiles, does not count."""
    y, best = function(x), math.inf
    for _ in range(repeats):
        start = time.process_time()
        y = function(x)
        best = min(best, time.process_time() - start)
    return best, y


def measure(
    case: str, library: str, forward: Map, adjoint: Map, x: Tensor, *, per: int = 1, repeats: int
) -> Row:
    fp, y = cpu_seconds(forward, x, repeats)
    bp, back = cpu_seconds(adjoint, y, repeats)
    energy = float(y.double().square().sum())
    error = abs(energy - float((x.double() * back.double()).sum())) / energy
    return {
        "case": case,
        "library": library,
        "fp_cpu_s": fp / per,
        "bp_cpu_s": bp / per,
        "adjoint_error": error,
        "load": os.getloadavg()[0],
    }


def of(case: str, library: str, A: LinearOperator, repeats: int, *, per: int = 1) -> Row:
    """Measure an operator on noise."""
    x = torch.randn(A.domain.shape, generator=torch.Generator().manual_seed(0))
    return measure(case, library, A, A.adjoint, x, per=per, repeats=repeats)


def rows(repeats: int) -> Iterator[Row]:
    one, arc = G2.slab(0, 1), replace(FAN, detector_radius=FAN.source_to_detector)
    coarse = replace(FAN, columns=368, column_spacing=2 * FAN.column_spacing * 1.3)
    stack = {"repeats": repeats, "per": SLICES}
    yield of("G2, 32 slices", "medrecon", projector(G2, FAN), **stack)
    yield of("G2, 32 slices", "medrecon, arc", projector(G2, arc), **stack)
    yield of("G2, 32 slices", "medrecon, footprints (2 px)", projector(G2, coarse), **stack)
    yield of("G2, 32 slices", "medrecon, matrix", projector(G2, FAN, "matrix"), **stack)
    four = G2.slab(0, 4)
    yield of("G2, 4 slices", "medrecon", projector(four, FAN), repeats, per=4)
    yield of("G2, 4 slices", "medrecon, matrix", projector(four, FAN, "matrix"), repeats, per=4)
    yield of("G2, 1 slice", "medrecon", projector(one, FAN), repeats)
    # 359 views have no quarter turns.
    yield of("G2, 1 slice", "medrecon, no turns", projector(one, FAN[:359]), repeats)
    yield of("G2, 1 slice", "medrecon, matrix", projector(one, FAN, "matrix"), repeats)
    if importlib.util.find_spec("astra"):
        yield of("G2, 1 slice", "ASTRA line", projector(one, FAN, "astra"), repeats)
    yield of("G3", "medrecon", projector(G3, CONE), repeats)
    noise = torch.Generator().manual_seed(0)
    for case, library, forward, adjoint, shape in ct_rivals.operators(one, FAN, G3, CONE):
        x = torch.randn(shape, generator=noise)
        yield measure(case, library, forward, adjoint, x, repeats=1)


def sizes(repeats: int) -> Iterator[Row]:
    """Projectors of the same scan at several sizes, with the time per voxel and view."""
    for n in SIZES:
        scale = n / 128
        cells = {"columns": round(192 * scale), "column_spacing": CONE.column_spacing}
        lengths = {
            "source_to_axis": scale * CONE.source_to_axis,
            "source_to_detector": scale * CONE.source_to_detector,
        }
        fan = FanBeam(angles=CONE.angles, **cells, **lengths)  # type: ignore[arg-type]
        cone = replace(CONE, rows=n, **cells, **lengths)  # type: ignore[arg-type]
        for case, geometry, depth in (("fan", fan, SLICES), ("cone", cone, n)):
            grid = Grid.centred((depth, n, n), (1.0, 1.0, 1.0))
            row = of(f"{case}, {n}", "medrecon", projector(grid, geometry), repeats)
            work = grid.shape[0] * n * n * geometry.views
            fp, bp = (float(row[k]) / work * 1e9 for k in ("fp_cpu_s", "bp_cpu_s"))
            yield row | {"voxel_views": work, "fp_ns": fp, "bp_ns": bp}


FIRST = """
import time, torch
from medrecon.geometry.ct import FanBeam
from medrecon.grid import Grid
from medrecon.operators.ct import projector
torch.set_num_threads(1)
scanner = FanBeam(
    angles=(0.0,), source_to_axis=99, source_to_detector=150, columns=9, column_spacing=1
)
A = projector(Grid.centred((1, 8, 8), (1, 1, 1)), scanner)
a = time.process_time(); y = A(torch.ones(1, 8, 8))
b = time.process_time(); A.adjoint(y)
print(b - a, time.process_time() - b)
"""


def first_calls() -> Iterator[Row]:
    """Time the first call of a slice projector, with nothing compiled and from the disk."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        for case in ("first call, nothing compiled", "first call, compiled before"):
            command = [sys.executable, "-c", FIRST]
            done = subprocess.run(command, env=environment, capture_output=True, check=True)
            fp, bp = map(float, done.stdout.split())
            yield {"case": case, "library": "medrecon", "fp_cpu_s": fp, "bp_cpu_s": bp}


def plot(table: list[Row], path: Path) -> None:
    """Draw CPU-seconds over voxels times views."""
    figure, axes = importlib.import_module("matplotlib.pyplot").subplots(figsize=(6, 4))
    for case in ("fan", "cone"):
        some = [r for r in table if str(r["case"]).startswith(f"{case},") and "voxel_views" in r]
        work = [float(r["voxel_views"]) for r in some]
        for key, name in (("fp_cpu_s", "forward"), ("bp_cpu_s", "back")):
            axes.loglog(work, [float(r[key]) for r in some], "o-", label=f"{case}, {name}")
    axes.set(xlabel="voxels x views", ylabel="CPU-seconds", title="Cost against size, one thread")
    axes.legend()
    figure.savefig(path, dpi=150, bbox_inches="tight")


def show(table: list[Row]) -> None:
    print(f"{'case':30s} {'library':28s} {'FP':>8s} {'BP':>8s} {'adjoint':>9s}   (CPU-seconds)")
    for row in table:
        line = (
            f"{row['case']:30s} {row['library']:28s} {row['fp_cpu_s']:8.4f} {row['bp_cpu_s']:8.4f}"
        )
        if "adjoint_error" in row:
            line += f" {row['adjoint_error']:9.1e}"
        if "fp_ns" in row:
            line += f"   {row['fp_ns']:.2f} and {row['bp_ns']:.2f} ns per voxel and view"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a list of rows as JSON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", action="store_true", help="cost against size")
    parser.add_argument("--compile", action="store_true", help="first call of an installation")
    parser.add_argument("--plot", type=Path, default=None, help="draw the cost against size")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    numba = importlib.import_module("numba")
    numba.set_num_threads(min(arguments.threads, numba.config.NUMBA_NUM_THREADS))
    table = list(rows(arguments.repeats))
    if arguments.sizes or arguments.plot:
        table += sizes(arguments.repeats)
    if arguments.compile:
        table += first_calls()
    if arguments.plot:
        plot(table, arguments.plot)
    if arguments.json:
        print(json.dumps(table, indent=2))
    else:
        show(table)


if __name__ == "__main__":
    main()
