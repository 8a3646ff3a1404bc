"""How many CPU-seconds do the CT projectors take, beside ASTRA and other kernels?

Cases: G2, fan beam, 512 x 512, 736 columns x 360 views, 32 slices, seconds per slice; G3, cone
beam, 128^3, 128 rows x 192 columns x 90 views.  CPU-seconds, because machines are shared; the
best of a few runs on one thread.  The adjoint error is ``|<Ax, Ax> - <x, A^T A x>| / |Ax|^2``.

    python tests/benchmarks/ct_projectors.py [--json] [--threads N] [--prototypes FOLDER]

``--prototypes`` names a folder with modules ``nb2d`` and ``nb3d_dd`` to time in the same run.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medrecon.geometry.ct import ConeBeam, FanBeam, equiangular
from medrecon.grid import Grid
from medrecon.operators.ct import projector

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
    }


def rows(prototypes: Path | None, repeats: int) -> Iterator[Row]:
    generator = torch.Generator().manual_seed(0)
    stack = torch.randn(G2.shape, generator=generator)
    volume = torch.randn(G3.shape, generator=generator)
    A = projector(G2, FAN)
    yield measure("G2", "medrecon", A, A.adjoint, stack, per=SLICES, repeats=repeats)
    one = projector(G2.slab(0, 1), FAN)
    yield measure("G2, 1 slice", "medrecon", one, one.adjoint, stack[:1], repeats=repeats)
    if importlib.util.find_spec("astra"):
        B = projector(G2.slab(0, 2), FAN, "astra")
        yield measure("G2", "astra line", B, B.adjoint, stack[:2], per=2, repeats=repeats)
    A = projector(G3, CONE)
    yield measure("G3", "medrecon", A, A.adjoint, volume, repeats=repeats)
    if prototypes:
        sys.path.insert(0, str(prototypes))
        yield from prototype_rows(stack, volume, repeats)


def prototype_rows(stack: Tensor, volume: Tensor, repeats: int) -> Iterator[Row]:
    nb2d: Any = importlib.import_module("nb2d")
    a = np.array(FAN.angles)
    u = np.stack([np.cos(a), np.sin(a)], 1)
    w = np.stack([-np.sin(a), np.cos(a)], 1)
    source = -FAN.source_to_axis * w
    step = FAN.column_spacing * u
    first = (FAN.source_to_detector - FAN.source_to_axis) * w - (FAN.columns - 1) / 2 * step

    def forward(x: Tensor) -> Tensor:
        y = np.empty((360, FAN.columns, SLICES), np.float32)
        nb2d.joseph_fp(x.permute(1, 2, 0).contiguous().numpy(), y, source, first, step)
        return torch.from_numpy(y)

    def adjoint(y: Tensor) -> Tensor:
        x = np.empty((512, 512, SLICES), np.float32)
        nb2d.joseph_bp(x, y.numpy(), source, first, step)
        return torch.from_numpy(x).permute(2, 0, 1)

    yield measure("G2", "prototype Joseph", forward, adjoint, stack, per=SLICES, repeats=repeats)
    nb3d: Any = importlib.import_module("nb3d_dd")
    P = nb3d.ConeDD(128, 128, 128, 192, 90, 212.5, 175.0, 1.43, 1.43)

    def cone(x: Tensor) -> Tensor:
        return torch.from_numpy(P.A(x.permute(1, 2, 0).contiguous().numpy()))

    def cone_adjoint(y: Tensor) -> Tensor:
        return torch.from_numpy(P.AT(y.numpy())).permute(2, 0, 1)

    yield measure("G3", "prototype footprint", cone, cone_adjoint, volume, repeats=repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a list of rows as JSON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--prototypes", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    numba = importlib.import_module("numba")
    numba.set_num_threads(min(arguments.threads, numba.config.NUMBA_NUM_THREADS))
    table = list(rows(arguments.prototypes, arguments.repeats))
    if arguments.json:
        print(json.dumps(table, indent=2))
        return
    print(f"{'case':12s} {'library':20s} {'FP':>8s} {'BP':>8s} {'adjoint':>9s}   (CPU-seconds)")
    for row in table:
        numbers = f"{row['fp_cpu_s']:8.3f} {row['bp_cpu_s']:8.3f} {row['adjoint_error']:9.1e}"
        print(f"{row['case']:12s} {row['library']:20s} {numbers}")


if __name__ == "__main__":
    main()
