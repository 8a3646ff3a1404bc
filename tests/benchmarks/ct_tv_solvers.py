"""Is ADMM the right solver for weighted total variation, or would a primal-dual method be faster?

Both minimise ``1/2 |W^(1/2) (A x - y)|^2 + w TV(x)`` (PWLS-TV): the package's ADMM, whose inner
systems conjugate gradients solve, and the primal-dual hybrid gradient of Chambolle and Pock with
the diagonal steps of Pock and Chambolle 2011 (doi:10.1109/ICCV.2011.6126441), for several balances
of its primal against its dual step.  CPU-seconds on one thread until the objective's relative gap
to its minimum has fallen below a bound, and the distance from the minimiser there.

Cases: a fan beam, 128 x 128 pixels, 60 views; a cone beam, 12 x 64 x 64 voxels, 32 views; counting
noise of 10^4 quanta per cell.

    python tests/benchmarks/ct_tv_solvers.py [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice, product
from operator import itemgetter

import torch
from torch import Tensor

from medrecon.baselines import total_variation
from medrecon.data_term import DataTerm
from medrecon.geometry import ConeBeam, CTGeometry
from medrecon.geometry.ct import equiangular
from medrecon.grid import Grid
from medrecon.operators.ct import projector
from medrecon.operators.difference import Difference
from medrecon.regularizers import TotalVariation
from tests.benchmarks.ct_unmatched import FAN, GRID, head

Row = dict[str, str | float]

SCALE = 0.02  # water per mm: the image is in units of water
GAPS = (1e-2, 1e-3, 1e-4)
CONE = ConeBeam(
    angles=equiangular(32),
    source_to_axis=212.5,
    source_to_detector=387.5,
    rows=16,
    columns=96,
    row_spacing=2.86,
    column_spacing=2.86,
)


def problem(grid: Grid, geometry: CTGeometry, truth: Tensor) -> DataTerm:
    """Noisy line integrals with their statistical weights."""
    A = projector(grid, geometry)
    generator = torch.Generator().manual_seed(0)
    lines = A(truth)
    counts = torch.poisson(1e4 * torch.exp(-lines), generator=generator).clamp_min(1)
    return DataTerm(A, torch.log(1e4 / counts), counts, SCALE)


def primal_dual(
    data: DataTerm, tv: TotalVariation, balance: float, start: Tensor | None = None
) -> Iterator[Tensor]:
    """Chambolle and Pock; primal steps times ``balance``, dual steps over it."""
    A, K = data.operator, tv.operator
    root = torch.as_tensor(data.precision).sqrt() * data.scale
    target = torch.as_tensor(data.precision).sqrt() * data.measurements
    x = torch.zeros_like(data.rhs) if start is None else start
    rows = root * A(torch.ones_like(x))
    sigma = 1 / (balance * rows.clamp_min(1e-3 * float(rows.max())))
    sigma_tv = min(K.spacing) / (2 * balance)
    tau = balance / (A.adjoint(root) + sum(2 / h for h in K.spacing))
    p, q = root * A(x) - target, torch.zeros_like(K(x))
    ahead = x
    while True:
        p = (p + sigma * (root * A(ahead) - target)) / (1 + sigma)
        q = q + sigma_tv * K(ahead)
        q = q - sigma_tv * tv.prox(q / sigma_tv, 1 / sigma_tv)
        before = x
        x = x - tau * (A.adjoint(root * p) + K.adjoint(q))
        ahead = 2 * x - before
        yield x


def admm(data: DataTerm, tv: TotalVariation) -> Iterator[Tensor]:
    """Run the package's own solver until it stands still."""
    dz, dy, dx = tv.operator.spacing
    for state in total_variation(data, (dz, dy, dx), weight=tv.weight, iterations=300):
        yield state.value


def objective(data: DataTerm, tv: TotalVariation, x: Tensor) -> float:
    """Negative log-likelihood and penalty."""
    return data.value(x) + tv.value(x)


def minimum(data: DataTerm, tv: TotalVariation, iterations: int) -> tuple[Tensor, float]:
    """Go on from where ADMM stops with the other method; keep the best image of all."""
    *_, end = admm(data, tv)
    more = islice(primal_dual(data, tv, 0.03, end), iterations)
    return min(((x, objective(data, tv, x)) for x in chain([end], more)), key=itemgetter(1))


def clocked(
    steps: Iterator[Tensor],
    value: Callable[[Tensor], float],
    best: tuple[Tensor, float],
    most: float,
) -> Row:
    """CPU-seconds of the steps alone, to every gap."""
    row: Row = {}
    seconds, count, gap = 0.0, 0, math.inf
    while seconds < most and gap >= GAPS[-1]:
        start = time.process_time()
        x = next(steps, None)
        seconds += time.process_time() - start
        if x is None:
            break
        count += 1
        gap = value(x) / best[1] - 1
        for bound in GAPS:
            if gap < bound and f"s to {bound:g}" not in row:
                row[f"s to {bound:g}"] = round(seconds, 2)
                row[f"iterations to {bound:g}"] = count
                row[f"distance at {bound:g}"] = float((x - best[0]).norm() / best[0].norm())
    return row | {"last gap": gap}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    parser.add_argument("--most", type=float, default=60.0, help="CPU-seconds per run")
    parser.add_argument("--reference", type=int, default=2000, help="iterations after ADMM")
    options = parser.parse_args()
    torch.set_num_threads(1)
    small = Grid.centred((12, 64, 64), (1.0, 2.0, 2.0))
    cylinder = head()[:, ::2, ::2].repeat(12, 1, 1)
    cases: tuple[tuple[str, Grid, CTGeometry, Tensor], ...] = (
        ("fan", GRID, FAN, head()),
        ("cone", small, CONE, cylinder),
    )
    for (name, grid, geometry, truth), weight in product(cases, (3.0, 30.0)):
        data = problem(grid, geometry, truth.float())
        tv = TotalVariation(Difference(data.operator.domain, grid.spacing, (0, 1, 2)), weight)
        best = minimum(data, tv, options.reference)
        runs = {"ADMM": admm(data, tv)}
        for balance in (0.01, 0.03, 0.1, 0.3):
            runs[f"primal-dual, balance {balance:g}"] = primal_dual(data, tv, balance)
        for solver, steps in runs.items():
            row: Row = {"case": name, "weight": weight, "solver": solver}
            row |= clocked(steps, partial(objective, data, tv), best, options.most)
            words = (f"{k}: {v:.3g}" if isinstance(v, float) else str(v) for k, v in row.items())
            print(json.dumps(row) if options.json else "  ".join(words), flush=True)


if __name__ == "__main__":
    main()
