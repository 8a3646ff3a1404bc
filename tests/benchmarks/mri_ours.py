"""Our part in the MR benchmark, as a contestant among the others."""

from __future__ import annotations

import sys

import numpy as np
import torch

from medrecon.arrays import Space
from medrecon.calibration.coils import estimate_maps
from medrecon.geometry import Cartesian, NonCartesian
from medrecon.operators.cartesian import CartesianSense
from medrecon.operators.noncartesian import NonCartesianSense
from medrecon.operators.nufft import NUFFT
from medrecon.solvers.cg import conjugate_gradients
from tests.benchmarks.mri_peers import ITERATIONS
from tests.benchmarks.mri_timing import Array, Arrays, Contestants, Steps, take_part

NAME = "medrecon"


def nufft(arrays: Arrays) -> Steps:
    x, y = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["kspace"])
    A = NUFFT(Space(tuple(x.shape), complex=True), arrays["trajectory"])
    A.adjoint(A(x))  # plans
    return {"forward": lambda: A(x).numpy(), "adjoint": lambda: A.adjoint(y).numpy()}


def toeplitz(arrays: Arrays) -> Steps:
    """Of the whole SENSE operator: coils in, gram, coils out, on one image."""
    x = torch.from_numpy(arrays["image"])[None]
    maps = torch.from_numpy(arrays["maps"])[None]
    A = NonCartesianSense(maps, NonCartesian(trajectory=arrays["trajectory"]))
    A.gram(x)  # kernel
    return {"run": lambda: A.gram(x).numpy()}


def cg_sense(arrays: Arrays) -> Steps:
    maps, mask = torch.from_numpy(arrays["maps"]), torch.from_numpy(arrays["mask"])
    y = torch.from_numpy(arrays["kspace"])

    def run(slices: slice = slice(None)) -> Array:
        operator = CartesianSense(maps[slices], mask)
        b = operator.adjoint(y[slices])
        x = conjugate_gradients(
            operator.gram, b, blocks=1, max_iterations=ITERATIONS, tolerance=1e-12
        ).value
        return np.asarray(x)

    run(slice(1))
    return {"run": run}


def espirit(arrays: Arrays) -> Steps:
    y = torch.from_numpy(arrays["kspace"])
    kspace = y if y.ndim == 4 else y[None]
    geometry = Cartesian(mask=np.ones(y.shape[1:], dtype=bool))
    small = Cartesian(mask=np.ones((32,) * (y.ndim - 1), dtype=bool))
    middle = tuple(slice(n // 2 - 16, n // 2 + 16) for n in y.shape[1:])
    estimate_maps(kspace[(slice(None),) * (4 - len(middle)) + middle], small)  # the compiler
    return {"run": lambda: estimate_maps(kspace, geometry).reshape(y.shape).numpy()}


OURS: Contestants = {
    "nufft": {NAME: nufft},
    "toeplitz": {NAME: toeplitz},
    "cg_sense": {NAME: cg_sense},
    "espirit_2d": {NAME: espirit},
    "espirit_3d": {NAME: espirit},
}

if __name__ == "__main__":
    if len(sys.argv) > 1:
        torch.set_num_threads(int(sys.argv[-1]))
    take_part(OURS, sys.argv[1:])
