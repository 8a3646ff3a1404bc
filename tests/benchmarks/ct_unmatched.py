"""What does a back-projection cost that is not the adjoint?

Three tables.  How far each pair is from adjoint, with y random and with y = A x (a random y is
nearly orthogonal to everything and hides a mismatch).  What conjugate gradients make of
``(B A + lambda) x = B b`` where B is the exact adjoint, and where it is the voxel-driven linear
interpolation that GPU toolboxes use.  What SIRT makes of it.

Fan beam, 128 x 128 pixels of 1 mm, 60 views, 192 cells, Gaussian noise of 0.5 % of the largest
line integral.

    python tests/benchmarks/ct_unmatched.py [--json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.geometry import FanBeam, ParallelBeam, SliceGeometry
from medrecon.geometry.ct import equiangular
from medrecon.geometry.frames import frames
from medrecon.grid import Grid
from medrecon.operators.astra_vectors import plane_window, slice_vectors
from medrecon.operators.base import LinearOperator
from medrecon.operators.ct import projector
from medrecon.solvers.cg import cg_iterates
from medrecon.solvers.progress import Progress
from medrecon.solvers.sirt import sirt

Row = dict[str, str | float]

GRID = Grid.centred((1, 128, 128), (1.0, 1.0, 1.0))
FAN = FanBeam(
    angles=equiangular(60),
    source_to_axis=212.5,
    source_to_detector=387.5,
    columns=192,
    column_spacing=1.43,
)
PARALLEL = ParallelBeam(angles=equiangular(60, arc=np.pi), columns=192, column_spacing=1.0)
ASTRA = {"fan": ("line_fanflat", "strip_fanflat"), "parallel": ("line", "linear", "strip")}


@dataclass(frozen=True, eq=False)
class VoxelDriven(LinearOperator):
    """A flat fan's projector with the usual back-projection: interpolate at the pixel's shadow.

    Every pixel weighs its area over the width of a cell seen from the source at its distance, so
    that the scale is that of the adjoint.
    """

    exact: LinearOperator
    grid: Grid
    geometry: FanBeam

    @property
    def domain(self) -> Space:
        return self.exact.domain

    @property
    def codomain(self) -> Space:
        return self.exact.codomain

    @property
    def blocks(self) -> int:
        return self.exact.blocks

    @property
    def adjoint_is_exact(self) -> bool:
        return False

    def _forward(self, x: Tensor) -> Tensor:
        return self.exact._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        f = frames(self.geometry)
        _, ny, nx = self.grid.shape
        x = self.grid.origin[0] + np.arange(nx) * self.grid.spacing[2]
        pixel_y = self.grid.origin[1] + np.arange(ny) * self.grid.spacing[1]
        area, width = self.grid.spacing[1] * self.grid.spacing[2], self.geometry.column_spacing
        total = torch.zeros(*y.shape[:-2], ny, nx, dtype=y.dtype)
        padded = torch.nn.functional.pad(y, (1, 1))
        for v in range(f.views):
            source = f.source[v]  # type: ignore[index]
            px, py = x[None, :] - source[0], pixel_y[:, None] - source[1]
            depth = -(px * f.normal[v, 0] + py * f.normal[v, 1])
            reach = float(np.dot(source - f.foot[v], f.normal[v]))
            across = (px * f.u[v, 0] + py * f.u[v, 1]) / width
            column = (across * reach / depth + float(f.c0[v]) * width) / width
            oblique = depth / np.hypot(px, py)
            weight = area / (width * depth / reach * oblique)
            low = np.floor(column)
            part = torch.from_numpy(column - low).to(y.dtype)
            first = torch.from_numpy(np.clip(low + 1, 0, self.geometry.columns).astype(np.int64))
            value = (1 - part) * padded[..., v, first] + part * padded[..., v, first + 1]
            total += torch.from_numpy(weight).to(y.dtype) * value
        return total


def head() -> Tensor:
    """A few ellipses of different density, attenuation in 1/mm."""
    y, x = np.mgrid[-63.5:64:1, -63.5:64:1]
    image = np.zeros((1, 128, 128))
    for cx, cy, a, b, turn, value in (
        (0, 0, 50, 58, 0, 0.04),
        (0, 0, 46, 54, 0, -0.02),
        (-14, 4, 8, 20, 0.3, -0.006),
        (16, 2, 10, 18, -0.3, -0.006),
        (0, -22, 12, 12, 0, 0.006),
        (4, 30, 5, 3, 0.7, 0.02),
        (-6, 32, 2, 2, 0, 0.03),
    ):
        u = np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy)
        w = -np.sin(turn) * (x - cx) + np.cos(turn) * (y - cy)
        image[0] += value * ((u / a) ** 2 + (w / b) ** 2 <= 1)
    return torch.from_numpy(image)


def mismatch(forward: Callable[..., Any], back: Callable[..., Any], x: Any) -> tuple[float, float]:
    """``|<Ax, y> - <x, By>| / (|Ax| |y|)`` for y random and for y = Ax, summed in double."""
    wide = [np.asarray(forward(x), np.float64).ravel()]
    noise = np.random.default_rng(0).normal(size=np.shape(forward(x))).astype(np.float32)
    errors = []
    for y in (noise, forward(x)):
        inside = np.dot(np.asarray(x, np.float64).ravel(), np.asarray(back(y), np.float64).ravel())
        across = np.dot(wide[0], np.asarray(y, np.float64).ravel())
        norms = np.linalg.norm(wide[0]) * np.linalg.norm(np.asarray(y, np.float64))
        errors.append(float(abs(across - inside) / norms))
    return errors[0], errors[1]


def of(operator: LinearOperator) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Run an operator on arrays in single precision."""
    return (
        lambda x: operator(torch.from_numpy(np.asarray(x, np.float32))).numpy(),
        lambda y: operator.adjoint(torch.from_numpy(np.asarray(y, np.float32))).numpy(),
    )


def adjoints() -> Iterable[Row]:
    """How far from adjoint are the pairs?"""
    x = np.random.default_rng(1).normal(size=GRID.shape).astype(np.float32)
    beams: dict[str, SliceGeometry] = {"fan": FAN, "parallel": PARALLEL}
    for beam, geometry in beams.items():
        pairs = {"medrecon": of(projector(GRID, geometry))}
        if isinstance(geometry, FanBeam):
            pairs["voxel-driven"] = of(VoxelDriven(projector(GRID, geometry), GRID, geometry))
        for name, (forward, back) in pairs.items():
            random, own = mismatch(forward, back, x)
            yield {"beam": beam, "pair": name, "random y": random, "y = Ax": own}
        for kernel in ASTRA[beam]:
            random, own = astra_mismatch(kernel, geometry, x[0])
            yield {"beam": beam, "pair": f"ASTRA {kernel}", "random y": random, "y = Ax": own}


def astra_mismatch(kernel: str, geometry: SliceGeometry, x: Any) -> tuple[float, float]:
    """Measure a kernel of ASTRA on the CPU."""
    import astra

    angles, cells = np.array(geometry.angles), geometry.columns
    if kernel == "strip_fanflat":  # ASTRA's strips know circles only
        behind = FAN.source_to_detector - FAN.source_to_axis
        scan = astra.create_proj_geom(
            "fanflat", FAN.column_spacing, cells, angles, FAN.source_to_axis, behind
        )
    else:
        vectors = slice_vectors(geometry)
        scan = astra.create_proj_geom(vectors.kind, *vectors.detector, vectors.rows)
    number = astra.create_projector(kernel, scan, astra.create_vol_geom(*plane_window(GRID)))
    try:
        matrix = astra.OpTomo(number)
        return mismatch(matrix.FP, matrix.BP, x)
    finally:
        astra.projector.delete(number)


def noisy(A: LinearOperator, truth: Tensor) -> Tensor:
    """Measurements with noise of 0.5 % of the largest."""
    clean = A(truth)
    generator = torch.Generator().manual_seed(0)
    return clean + 0.005 * clean.max() * torch.randn(
        clean.shape, generator=generator, dtype=clean.dtype
    )


def gradients(weights: tuple[float, ...], marks: tuple[int, ...]) -> Iterable[Row]:
    """Conjugate gradients with either back-projection, judged by the exact problem."""
    exact = projector(GRID, FAN)
    truth = head()
    b = noisy(exact, truth)
    for weight in weights:
        for name, A in (("exact", exact), ("voxel-driven", VoxelDriven(exact, GRID, FAN))):
            rhs = A.adjoint(b)

            def system(x: Tensor, A: LinearOperator = A, weight: float = weight) -> Tensor:
                return A.gram(x) + weight * x

            row: Row = {"lambda": weight, "back-projection": name}
            solution = solve_exactly(exact, b, weight) if weight else truth
            steps = cg_iterates(system, rhs, torch.zeros_like(rhs))
            for k, step in enumerate(islice(steps, max(marks)), 1):
                if k in marks:
                    own = (rhs - system(step.value)).norm() / rhs.norm()
                    row[f"residual {k}"] = float(own)
                    row[f"to solution {k}"] = relative(step.value, solution)
                    row[f"to truth {k}"] = relative(step.value, truth)
            yield row


def solve_exactly(A: LinearOperator, b: Tensor, weight: float) -> Tensor:
    """Run the exact pair until it stands."""
    rhs = A.adjoint(b)
    *_, end = islice(cg_iterates(lambda x: A.gram(x) + weight * x, rhs, torch.zeros_like(rhs)), 400)
    return end.value


def relative(x: Tensor, reference: Tensor) -> float:
    """``|x - reference| / |reference|``."""
    return float((x - reference).norm() / reference.norm())


def simultaneous(marks: tuple[int, ...]) -> Iterable[Row]:
    """SIRT with either back-projection."""
    exact = projector(GRID, FAN)
    truth = head()
    b = noisy(exact, truth)
    for name, A in (("exact", exact), ("voxel-driven", VoxelDriven(exact, GRID, FAN))):
        steps: Iterable[Progress] = sirt(A, b, iterations=max(marks))
        row: Row = {"back-projection": name}
        row |= {
            f"to truth {p.iteration}": relative(p.value, truth)
            for p in steps
            if p.iteration in marks
        }
        yield row


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    as_json = parser.parse_args().json
    torch.set_num_threads(1)
    tables = (
        adjoints(),
        gradients((0.0, 3.0, 30.0), (5, 10, 20, 40, 100)),
        simultaneous((10, 50, 200)),
    )
    for row in (row for table in tables for row in table):
        words = (f"{k}: {v:.3g}" if isinstance(v, float) else f"{v:>14}" for k, v in row.items())
        print(json.dumps(row) if as_json else "  ".join(words))


if __name__ == "__main__":
    main()
