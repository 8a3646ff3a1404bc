"""What the Triton kernels compute, in a process of its own: Triton looks at the environment once.

    TRITON_INTERPRET=1 python -m tests.operators.triton_cases interpret
    python -m tests.operators.triton_cases compile

prints JSON.  ``interpret``: per scan the difference from the CPU's kernels and the adjoint errors.
``compile``: what NVIDIA's assembler says of every kernel; it needs no GPU.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import torch

from medrecon.geometry.ct import (
    ConeBeam,
    CTGeometry,
    FanBeam,
    ParallelBeam,
    ParallelBeam3D,
)
from medrecon.grid import Grid
from medrecon.operators import slice_projector
from medrecon.operators.base import LinearOperator
from medrecon.operators.ct import projector
from medrecon.operators.kernels import engine
from tests.contracts import CHECKS, adjoint_error, distance, name, random

ODD = (0.1, math.pi / 4)
GRID = Grid.centred((4, 7, 8), (1.7, 1.3, 0.8), center=(1.5, -2.0, 0.9))
PARALLEL = ParallelBeam(angles=ODD, columns=11, column_spacing=1.1, column_offset=0.4)
FAN = FanBeam(
    angles=ODD,
    source_to_axis=40.0,
    source_to_detector=65.0,
    columns=13,
    column_spacing=1.4,
    column_offset=-0.8,
)
CONE = ConeBeam(
    angles=ODD,
    source_to_axis=40.0,
    source_to_detector=65.0,
    rows=5,
    columns=13,
    row_spacing=1.9,
    column_spacing=1.4,
    row_offset=0.7,
    column_offset=-0.8,
)
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
MODULES = ("joseph", "footprint", "footprint2d", "joseph3d")


def errors(geometry: CTGeometry) -> dict[str, float]:
    """Differences from the CPU's kernels and adjoint errors, single and double precision."""
    cpu, gpu = projector(GRID, geometry), projector(GRID, geometry, "triton")
    found = {}
    for precision in (torch.float32, torch.float64):
        key = str(precision).removeprefix("torch.")
        x = random(cpu.domain, precision=precision)
        y = random(cpu.codomain, seed=1, precision=precision)
        Ax = gpu(x)
        found[f"forward {key}"] = distance(Ax, cpu(x))
        found[f"transpose {key}"] = distance(gpu.adjoint(y), cpu.adjoint(y))
        found[f"dot {key}"] = adjoint_error(gpu, x, y)
        found[f"dot with Ax {key}"] = adjoint_error(gpu, x, Ax)
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
            verdict(check, projector(GRID, SCANS[scan], "triton"))
            for check in CHECKS
            if scan == BATTERY[0] or name(check) in QUICK
        ]
        for scan in BATTERY
    }
    return {"errors": {scan: errors(g) for scan, g in SCANS.items()}, "battery": battery}


def launches(geometry: CTGeometry) -> Iterator[tuple[Any, tuple[Any, ...], int, dict[str, Any]]]:
    """Kernels, arguments, warps and constants of both directions, with the tiles of a GPU."""
    found: list[tuple[Any, tuple[Any, ...], int, dict[str, Any]]] = []

    def record(kernel: Any, _: object, *arguments: Any, warps: int, **static: Any) -> None:
        found.append((kernel, arguments, warps, static))

    class OnGPU:
        is_cuda = True

    twins: list[Any] = [
        importlib.import_module(f"medrecon.operators.kernels.triton_{m}") for m in MODULES
    ]
    fit = importlib.import_module("medrecon.operators.kernels.triton_tools").tile
    for twin in twins:
        twin.start = record
        twin.tile = lambda preferred, depth, x: fit(preferred, depth, OnGPU())
    operator = projector(GRID, geometry, "triton")
    # Lets data in host memory through; the kernels were decorated without it.
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        operator(torch.zeros(operator.domain.shape))
        operator.adjoint(torch.zeros(operator.codomain.shape))
    yield from found


def assemble(kernel: Any, arguments: tuple[Any, ...], warps: int, static: dict[str, Any]) -> str:
    """Compile for an A100; empty, or what stands in its way."""
    compiler: Any = importlib.import_module("triton.compiler")
    backends: Any = importlib.import_module("triton.backends.compiler")
    pointers = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int32: "*i32"}
    pointers[torch.int64] = "*i64"
    rest = iter(arguments)
    signature, constants = {}, {}
    for place, argument in enumerate(kernel.arg_names):
        if argument in static:
            signature[argument], constants[place,] = "constexpr", static[argument]
            continue
        value = next(rest)
        signature[argument] = pointers[value.dtype] if torch.is_tensor(value) else "i32"
    source = compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants)
    target = backends.GPUTarget("cuda", 80, 32)
    options = {"num_warps": warps, "enable_fp_fusion": False}
    ptx = compiler.compile(source, target=target, options=options).asm["ptx"]
    return "local memory" if ".local" in ptx else ""


def compiled() -> dict[str, str]:
    """Assemble every kernel once."""
    kinds = ("fan", "fan on an arc, coarse columns", "cone on an arc", "laminography")
    found: dict[str, str] = {}
    for scan in kinds:
        for kernel, arguments, warps, static in launches(SCANS[scan]):
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
