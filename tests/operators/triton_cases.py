"""What the Triton kernels compute, in a process of its own: Triton looks at the environment once.

    TRITON_INTERPRET=1 python -m tests.operators.triton_cases interpret
    python -m tests.operators.triton_cases compile

prints JSON.  ``interpret``: per scan the difference from the CPU's kernels and the adjoint errors,
and that of the analytic reconstructions.  ``compile``: what NVIDIA's assembler says of every
kernel; it needs no GPU.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from medrecon.analytic.dispatch import analytic
from medrecon.geometry.ct import (
    ConeBeam,
    CTGeometry,
    ParallelBeam3D,
    equiangular,
)
from medrecon.grid import Grid
from medrecon.operators import slice_projector
from medrecon.operators.base import LinearOperator
from medrecon.operators.ct import projector
from medrecon.operators.kernels import engine
from tests.contracts import CHECKS, distance, inner, name, norm, random
from tests.operators import scans

ODD = (0.1, math.pi / 4)
GRID = Grid.centred((4, 7, 8), (1.7, 1.3, 0.8), center=(1.5, -2.0, 0.9))
SMALL = Grid.centred((3, 3, 4), (1.7, 1.3, 0.8), center=(1.5, -2.0, 0.9))
PARALLEL = replace(scans.PARALLEL, angles=ODD)
FAN = replace(scans.FAN, angles=ODD)
CONE = replace(scans.CONE, angles=ODD, rows=5)
ROWS = ParallelBeam3D(
    angles=ODD, rows=5, columns=11, row_spacing=1.7, column_spacing=1.1, row_offset=0.3
)
TILT = ((1.0, 0.0, 0.0), 0.3)
SCANS: dict[str, CTGeometry] = {
    "parallel": PARALLEL,
    "parallel, coarse columns": replace(PARALLEL, columns=4, column_spacing=3.3),
    "fan": FAN,
    "fan, fine columns": replace(FAN, column_spacing=0.5),
    "fan, one column": replace(FAN, columns=1),
    "fan on an arc": replace(FAN, detector_radius=65.0),
    "fan on an arc, coarse columns": replace(
        FAN, detector_radius=50.0, columns=5, column_spacing=5.0
    ),
    "parallel with rows": ROWS,
    "cone": CONE,
    "cone, fine cells": replace(CONE, row_spacing=0.6, column_spacing=0.5),
    "cone, coarse cells": replace(CONE, row_spacing=4.0, column_spacing=4.5, columns=5, rows=3),
    "cone on an arc": replace(CONE, detector_radius=65.0),
    "helix": replace(CONE, heights=(-2.5, 2.0), detector_radius=65.0, rows=3),
    "flying focal spot": replace(
        CONE, focal_shifts=((0.4, 0.0, 0.0), (-0.4, 0.3, 0.5)), detector_radius=65
    ),
    "upright vectors": CONE.vectors(),
    "tilted cone": CONE.vectors().rotated(*TILT),
    "tilted cone on an arc": replace(CONE, detector_radius=65.0).vectors().rotated(*TILT),
    "tilted cone, coarse cells": replace(CONE, column_spacing=4.5, columns=5)
    .vectors()
    .rotated(*TILT),
    "laminography": ROWS.vectors().rotated((1.0, 0.0, 0.0), 0.6),
}
TURN = equiangular(6)
ANALYTIC: dict[str, CTGeometry] = {
    "parallel": replace(PARALLEL, angles=TURN),
    "fan": replace(FAN, angles=TURN),
    "fan on an arc": replace(FAN, angles=TURN, detector_radius=65.0),
    "fan on another arc": replace(FAN, angles=TURN, detector_radius=50.0),
    "wide fan on an arc": replace(FAN, angles=TURN, detector_radius=65.0, columns=85),
    "parallel with rows": replace(ROWS, angles=TURN),
    "cone": replace(CONE, angles=TURN),
    "cone on an arc": replace(CONE, angles=TURN, detector_radius=50.0),
    "C-arm": replace(CONE, angles=TURN).vectors().rotated((1.0, 0.0, 0.0), 0.1),
    "helix": ConeBeam.helical(
        pitch=5.0,
        turns=1.7,
        views_per_turn=16,
        source_to_axis=40.0,
        source_to_detector=65.0,
        detector_radius=65.0,
        rows=5,
        columns=13,
        row_spacing=1.9,
        column_spacing=1.6,
    ),
}
BATTERY = ("fan on an arc", "helix")
QUICK = (
    "it_is_linear",
    "its_backward_is_its_adjoint",
    "precision_follows_the_input",
    "the_device_follows_the_input",
    "the_input_stays_as_it_was",
    "strided_inputs_are_fine",
    "wrong_shapes_are_refused",
)
DEEP = 512  # slices for which kernels are assembled
MODULES = ("joseph", "footprint", "footprint2d", "joseph3d", "interpolation", "helix")


def errors(geometry: CTGeometry) -> dict[str, float]:
    """Differences from the CPU's kernels and adjoint errors, single and double precision."""
    cpu, gpu = projector(GRID, geometry), projector(GRID, geometry, "triton")
    found = {}
    for precision in (torch.float32, torch.float64):
        key = str(precision).removeprefix("torch.")
        x = random(cpu.domain, precision=precision)
        y = random(cpu.codomain, seed=1, precision=precision)
        Ax, Aty = gpu(x), gpu.adjoint(y)
        AtAx = gpu.adjoint(Ax)
        found[f"forward {key}"] = distance(Ax, cpu(x))
        found[f"transpose {key}"] = distance(Aty, cpu.adjoint(y))
        found[f"dot {key}"] = abs(inner(Ax, y) - inner(x, Aty)) / (norm(Ax) * norm(y))
        found[f"dot with Ax {key}"] = abs(inner(Ax, Ax) - inner(x, AtAx)) / norm(Ax) ** 2
    return found


def measurements(geometry: CTGeometry, precision: torch.dtype = torch.float32) -> Tensor:
    """Random measurements of a scan."""
    return random(projector(GRID, geometry).codomain, precision=precision)


def analytic_errors(geometry: CTGeometry) -> dict[str, float]:
    """Differences of analytic reconstructions from those by the CPU's kernels."""
    found = {}
    for precision in (torch.float32, torch.float64):
        y = measurements(geometry, precision)
        with engine.using("triton"):
            result = analytic(y, geometry, GRID)
        found[str(precision).removeprefix("torch.")] = distance(result, analytic(y, geometry, GRID))
    return found


def verdict(check: Any, operator: LinearOperator) -> str:
    """Empty if the check passes, else what it said."""
    try:
        check(operator)
    except AssertionError as error:
        return f"{name(check)}: {error}"
    return ""


def interpret() -> dict[str, Any]:
    """Run every scan through the interpreter."""
    battery = {
        scan: [
            verdict(check, projector(SMALL, SCANS[scan], "triton"))
            for check in CHECKS
            if scan == BATTERY[0] or name(check) in QUICK
        ]
        for scan in BATTERY
    }
    return {
        "errors": {scan: errors(g) for scan, g in SCANS.items()},
        "analytic": {scan: analytic_errors(g) for scan, g in ANALYTIC.items()},
        "battery": battery,
    }


Launch = tuple[Any, tuple[Any, ...], int, dict[str, Any]]


def project(geometry: CTGeometry) -> None:
    """Both directions."""
    operator = projector(GRID, geometry, "triton")
    operator(torch.zeros(operator.domain.shape))
    operator.adjoint(torch.zeros(operator.codomain.shape))


def reconstruct_it(geometry: CTGeometry) -> None:
    """Analytically."""
    with engine.using("triton"):
        analytic(measurements(geometry), geometry, GRID)


def launches(compute: Callable[[CTGeometry], None], geometry: CTGeometry) -> Iterator[Launch]:
    """Kernels, arguments, warps and constants of a computation, with the tiles of a GPU."""
    found: list[Launch] = []

    def record(kernel: Any, _: object, *arguments: Any, warps: int, **static: Any) -> None:
        if kernel.fn.__module__.endswith("joseph3d"):  # its tile is chosen without tile()
            static["LINES"] = sys.modules[kernel.fn.__module__].RAYS
        found.append((kernel, arguments, warps, static))

    class OnGPU:
        is_cuda = True

    twins: list[Any] = [
        importlib.import_module(f"medrecon.operators.kernels.triton_{m}") for m in MODULES
    ]
    fit = importlib.import_module("medrecon.operators.kernels.triton_tools").tile
    for twin in twins:
        twin.start = record
        twin.tile = lambda preferred, depth, x: fit(preferred, DEEP, OnGPU())
    # Lets data in host memory through; the kernels were decorated without it.
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        compute(geometry)
    yield from found


def assemble(kernel: Any, arguments: tuple[Any, ...], warps: int, static: dict[str, Any]) -> str:
    """Compile for an A100; empty, or what stands in its way."""
    compiler: Any = importlib.import_module("triton.compiler")
    backends: Any = importlib.import_module("triton.backends.compiler")
    pointers = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int32: "*i32"}
    pointers[torch.int64] = "*i64"
    numbers = {int: "i32", float: "fp32"}
    rest = iter(arguments)
    signature, constants = {}, {}
    for place, argument in enumerate(kernel.arg_names):
        if argument in static:
            signature[argument], constants[place,] = "constexpr", static[argument]
            continue
        value = next(rest)
        signature[argument] = (
            pointers[value.dtype] if torch.is_tensor(value) else numbers[type(value)]
        )
    source = compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants)
    target = backends.GPUTarget("cuda", 80, 32)
    options = {"num_warps": warps, "enable_fp_fusion": False}
    done = compiler.compile(source, target=target, options=options).asm
    return "local memory" if ".local" in done["ptx"] else stack_of(done["cubin"])


def stack_of(cubin: bytes) -> str:
    """Registers that the assembler spilled stand on the stack; empty if none, or no tool tells."""
    tool = Path(importlib.import_module("triton").__file__ or "").parent.joinpath(
        "backends", "nvidia", "bin", "cuobjdump"
    )
    if not tool.exists():
        return ""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "-res-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "STACK:" in said, said
    return "" if "STACK:0 " in said else said


def compiled() -> dict[str, str]:
    """Assemble every kernel once."""
    kinds = ("fan", "fan on an arc, coarse columns", "cone on an arc", "laminography")
    work: list[tuple[Callable[[CTGeometry], None], CTGeometry]] = [
        (project, SCANS[scan]) for scan in kinds
    ]
    work += [(reconstruct_it, geometry) for geometry in ANALYTIC.values()]
    found: dict[str, str] = {}
    for compute, geometry in work:
        for kernel, arguments, warps, static in launches(compute, geometry):
            where = f"{kernel.fn.__module__.rpartition('.')[2]}.{kernel.fn.__name__}"
            curved = static.get("CURVED") or static.get("ARC")
            key = f"{where}, {'curved' if curved else 'flat'}"
            if key not in found:
                found[key] = assemble(kernel, arguments, warps, static)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    slice_projector.LANES = 8  # several launches for a batch
    assert engine.has_triton()
    print(json.dumps(interpret() if sys.argv[1] == "interpret" else compiled()))
