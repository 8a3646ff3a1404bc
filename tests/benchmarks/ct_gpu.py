"""How fast are the CT projectors on a GPU, beside ASTRA's and beside CUDA written by hand?

``large``: cone beam, 512^3, 512 rows x 768 columns x 720 views, forward and transpose, beside
ASTRA's CUDA kernels in the same run.  ``small``: the transpose alone, 256^3 x 360 views, beside
tests/benchmarks/footprint_transpose.cu through NVRTC.  Times are medians of a few runs between
events on the GPU, after one that compiles; GUPS are 1e9 voxels times views per second; the adjoint
error is ``|<Ax, Ax> - <x, A^T A x>| / |Ax|^2``.

    python -m tests.benchmarks.ct_gpu [--json] [--case large|small|tiny] [--tiles]

``--tiles`` times the transpose's and the forward's tiles instead, to choose their constants.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medrecon.errors import MedreconError
from medrecon.geometry.ct import ConeBeam, equiangular
from medrecon.grid import Grid
from medrecon.operators.base import LinearOperator
from medrecon.operators.cone import ConeProjector
from medrecon.operators.ct import projector
from tests.benchmarks.cuda_kernel import MissingCompilerError, compile_kernel

Map = Callable[[Tensor], Tensor]
Row = dict[str, str | float]
REPEATS = 5


def case(size: int, views: int, rows: int, columns: int) -> tuple[Grid, ConeBeam]:
    """A cube of ``size`` mm before a detector on which its middle is 1.17 cells per voxel."""
    pitch = 1.56 * size / rows
    scanner = ConeBeam(
        angles=equiangular(views),
        source_to_axis=1.66 * size,
        source_to_detector=3.03 * size,
        rows=rows,
        columns=columns,
        row_spacing=pitch,
        column_spacing=pitch,
    )
    return Grid.centred((size, size, size), (1.0, 1.0, 1.0)), scanner


CASES = {
    "large": case(512, 720, 512, 768),
    "small": case(256, 360, 256, 384),
    "tiny": case(64, 60, 64, 96),
}


def seconds(function: Map, x: Tensor) -> tuple[float, Tensor]:
    """Median time on the GPU, and the result."""
    y = function(x)
    times = []
    for _ in range(REPEATS):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        y = function(x)
        last.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last) / 1e3)
    return statistics.median(times), y


def inner(a: Tensor, b: Tensor) -> float:
    """Inner product in double precision, a part at a time."""
    pairs = zip(a.split(16), b.split(16), strict=True)
    return sum(float((p.double() * q.double()).sum()) for p, q in pairs)


def measure(name: str, library: str, A: LinearOperator, x: Tensor) -> Row:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    _, scanner = CASES[name]
    fp, y = seconds(A, x)
    bp, back = seconds(A.adjoint, y)
    peak = torch.cuda.max_memory_allocated()
    energy = inner(y, y)
    work = x.numel() * scanner.views / 1e9
    return {
        "case": name,
        "library": library,
        "fp_s": fp,
        "bp_s": bp,
        "fp_gups": work / fp,
        "bp_gups": work / bp,
        "peak_GiB": peak / 2**30,
        "adjoint_error": abs(energy - inner(x, back)) / energy,
    }


def projectors(name: str) -> Iterator[Row]:
    """Our pair and ASTRA's."""
    grid, scanner = CASES[name]
    generator = torch.Generator(device="cuda").manual_seed(0)
    x = torch.randn(grid.shape, generator=generator, device="cuda")
    yield measure(name, "medrecon", projector(grid, scanner), x)
    try:
        yield measure(name, "astra", projector(grid, scanner, "astra"), x)
    except (MedreconError, RuntimeError) as error:
        yield {"case": name, "library": "astra", "skipped": str(error)}


def by_hand(name: str) -> Row:
    """Time the transpose in CUDA C and compare its result with ours."""
    source = (Path(__file__).parent / "footprint_transpose.cu").read_text(encoding="utf-8")
    try:
        kernel = compile_kernel(source, "footprint_transpose")
    except MissingCompilerError as error:
        return {"case": name, "library": "CUDA C", "skipped": str(error)}
    axial: Any = importlib.import_module("medrecon.operators.kernels.triton_axial")
    plane: Any = importlib.import_module("medrecon.operators.kernels.triton_plane")
    grid, scanner = CASES[name]
    A = ConeProjector(grid, scanner)
    shadows, views, rows, _, paths, *_ = A._tables
    tables = [
        torch.from_numpy(t).cuda()
        for t in (plane.positions(shadows), views, axial.anchors(rows), axial.remainders(rows))
    ]
    length, climb = torch.from_numpy(paths).cuda().unbind(-1)
    edge, step = torch.from_numpy(rows[:, 1:]).cuda().unbind(-1)
    height = edge[:, None] + step[:, None] * (torch.arange(scanner.rows, device="cuda") + 0.5)
    path = length[..., None] * (1 + (climb[..., None] * height[:, None]) ** 2).sqrt()
    y = torch.randn(scanner.views, scanner.columns, scanner.rows, device="cuda")
    depth, ny, nx = grid.shape

    def transpose(y: Tensor) -> Tensor:
        weighted = (y * path).float()
        volume = torch.empty(ny, nx, depth, device="cuda")
        sizes = [nx, depth, scanner.columns, scanner.rows, scanner.views]
        kernel(
            grid=(ny * nx, 1, 1),
            block=(min(depth, 256), 1, 1),
            args=[weighted, *tables, volume, *sizes],
        )
        return volume.permute(2, 0, 1)

    bp, result = seconds(transpose, y)
    ours, expected = seconds(lambda y: A.adjoint(y.permute(0, 2, 1)), y)
    return {
        "case": name,
        "library": "CUDA C",
        "bp_s": bp,
        "bp_s_triton": ours,
        "triton_over_cuda": ours / bp,
        "difference": float((result - expected).norm() / expected.norm()),
    }


def tiles(name: str) -> Iterator[Row]:
    """Time other tiles of both directions."""
    footprint: Any = importlib.import_module("medrecon.operators.kernels.triton_footprint")
    grid, scanner = CASES[name]
    A = projector(grid, scanner)
    x = torch.randn(grid.shape, device="cuda")
    y = A(x)
    for direction, function, data in (("FORWARD", A, x), ("TRANSPOSE", A.adjoint, y)):
        usual = getattr(footprint, direction)
        for depth, lines, warps in (
            *((64, 1, 1), (128, 1, 1), (256, 1, 1), (512, 1, 1)),
            *((256, 1, 2), (512, 1, 2), (512, 1, 4), (128, 4, 4), (32, 8, 4)),
        ):
            setattr(footprint, direction, replace(usual, depth=depth, lines=lines, warps=warps))
            time, _ = seconds(function, data)
            label = f"{direction} {depth} x {lines}, {warps} warps"
            yield {"case": name, "library": label, "s": time}
        setattr(footprint, direction, usual)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a list of rows as JSON")
    parser.add_argument("--case", choices=sorted(CASES), default=None)
    parser.add_argument("--tiles", action="store_true", help="time other tiles")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(2, "No GPU that torch can use: this benchmark has nothing to time here.\n")
    if arguments.tiles:
        table = list(tiles(arguments.case or "small"))
    elif arguments.case:
        table = [*projectors(arguments.case), by_hand(arguments.case)]
    else:
        table = [*projectors("large"), *projectors("small"), by_hand("small")]
    table.insert(0, {"case": "device", "library": torch.cuda.get_device_name()})
    if arguments.json:
        print(json.dumps(table, indent=2))
        return
    for row in table:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else str(v) for k, v in row.items()))


if __name__ == "__main__":
    main()
