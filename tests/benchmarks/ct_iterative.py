"""How far do the iterative methods get with how many passes over the measurements?

Fan beam, 128 x 128 pixels, an elliptic head with bone.  Two scans: 360 views with 2000 quanta per
cell, and 60 views with 10 quanta through the thickest part and as many of scatter on top, where
the logarithm is biased.  Error: ``|x - truth| / |truth|`` within the head.  A pass reads every view
once; its cost is one forward and one back projection (two back for the likelihood).

    python tests/benchmarks/ct_iterative.py [--json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medrecon.analytic.fbp import fbp
from medrecon.baselines import cgls
from medrecon.data_term import DataTerm
from medrecon.geometry import FanBeam
from medrecon.geometry.ct import equiangular
from medrecon.operators.ct import projector
from medrecon.solvers.progress import Progress, nonnegative
from medrecon.solvers.sirt import Subset, os_sart
from medrecon.solvers.subsets import split_geometry, split_views
from medrecon.solvers.transmission import Transmission, os_transmission
from tests.benchmarks.ct_unmatched import FAN, GRID, head

Row = dict[str, str | float]

MARKS = (1, 2, 5, 10, 20, 50)


@dataclass(frozen=True, eq=False)
class Scan:
    """Counts, what they would be without the head, and what was added to them."""

    geometry: FanBeam
    counts: Tensor
    blank: float
    scatter: float

    @property
    def lines(self) -> Tensor:
        """Line integrals by the logarithm, counts after scatter at least one."""
        return torch.log(self.blank / (self.counts - self.scatter).clamp_min(1.0))

    @property
    def precision(self) -> Tensor:
        """Inverse variance of the lines."""
        return (self.counts - self.scatter).clamp_min(1.0).square() / self.counts.clamp_min(1.0)

    def sart(self, count: int) -> list[Subset]:
        """Ordered subsets of the lines."""
        parts = zip(
            split_geometry(self.geometry, count),
            split_views(self.lines, self.geometry, count),
            strict=True,
        )
        return [Subset(projector(GRID, g), y) for g, y in parts]

    def transmission(self, count: int) -> list[Transmission]:
        """Ordered subsets of the counts."""
        parts = zip(
            split_geometry(self.geometry, count),
            split_views(self.counts, self.geometry, count),
            strict=True,
        )
        return [
            Transmission(projector(GRID, g), y, torch.full_like(y, self.blank), self.scatter)
            for g, y in parts
        ]


def measured(views: int, blank: float, scatter: float) -> Scan:
    """Draw the counts."""
    geometry = replace(FAN, angles=equiangular(views))
    mean = blank * torch.exp(-projector(GRID, geometry)(head())) + scatter
    counts = torch.poisson(mean, generator=torch.Generator().manual_seed(0))
    return Scan(geometry, counts, blank, scatter)


def methods(scan: Scan) -> dict[str, Iterator[Progress]]:
    """Every method, by name."""
    A = projector(GRID, scan.geometry)
    data = DataTerm(A, scan.lines, scan.precision)
    start = fbp(scan.lines, scan.geometry, GRID, "hann").clamp_min(0)
    most = max(MARKS)
    runs = {
        "FBP, Hann": iter([Progress(1, start, 0.0)]),
        "CGLS, weighted": cgls(data, iterations=most, tolerance=0.0),
    }
    for count in (1, 10, 60):
        name = {1: "SIRT", 60: "OS-SART, 60 subsets"}.get(count, f"OS-SART, {count} subsets")
        runs[name] = os_sart(scan.sart(count), iterations=most, constraint=nonnegative)
    for count in (1, 10):
        name = f"counts, {count} subset{'s' if count > 1 else ''}"
        runs[name] = os_transmission(scan.transmission(count), iterations=most)
    runs["counts, 10 subsets, from FBP"] = os_transmission(
        scan.transmission(10), iterations=most, start=start
    )
    return runs


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    as_json = parser.parse_args().json
    torch.set_num_threads(1)
    truth = head()
    inside = truth > 0
    thickest = float(projector(GRID, FAN)(truth).max())
    for scan in (
        measured(360, 2000.0, 0.0),
        measured(60, 10.0 * float(torch.exp(torch.tensor(thickest))), 10.0),
    ):
        for name, steps in methods(scan).items():
            errors = {
                s.iteration: float((s.value - truth)[inside].norm() / truth[inside].norm())
                for s in steps
            }
            row: Row = {"views": scan.geometry.views, "method": name}
            row |= {f"pass {k}": errors[k] for k in MARKS if k in errors}
            row["best"] = min(errors.values())
            row["at pass"] = min(errors, key=errors.__getitem__)
            words = (f"{k}: {v:.3g}" if isinstance(v, float) else str(v) for k, v in row.items())
            print(json.dumps(row) if as_json else "  ".join(words), flush=True)


if __name__ == "__main__":
    main()
