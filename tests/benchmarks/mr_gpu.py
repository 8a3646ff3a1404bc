"""How fast are the MR operators on a GPU, and do they give the CPU's numbers?

The cases of :mod:`tests.benchmarks.mri` on a device, each compared with the CPU::

    python -m tests.benchmarks.mr_gpu --json
    python -m tests.benchmarks.mr_gpu --device cpu --quick    # that the script itself runs

``difference`` is relative to the CPU's result; ``peak_GiB`` the device's own count.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.calibration.coils import estimate_maps
from medrecon.geometry import Cartesian, NonCartesian
from medrecon.geometry.kspace import image_to_kspace
from medrecon.grid import Grid
from medrecon.operators.cartesian import CartesianSense
from medrecon.operators.noncartesian import NonCartesianSense
from medrecon.operators.nufft import NUFFT
from medrecon.priors.weights import load_prior
from medrecon.simulate_mr import coil_sensitivities
from medrecon.solvers.cg import conjugate_gradients
from tests.benchmarks.mri_cases import cg_sense_data, toeplitz_data
from tests.benchmarks.mri_peers import ITERATIONS

Step = Callable[[], Tensor]


def steps(device: str, quick: bool) -> dict[str, Step]:
    """What is timed, by name, on the device; data lie there already."""

    def on(array: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(array).to(device)

    radial = toeplitz_data(64 if quick else 256)
    images, k = on(radial["images"]), radial["trajectory"]
    A = NUFFT(Space(tuple(images.shape), complex=True), k)
    y = on(radial["kspace"])
    S = NonCartesianSense(on(radial["maps"])[None], NonCartesian(trajectory=k))
    x = on(radial["image"])[None]
    stack = cg_sense_data(64 if quick else 320)
    C = CartesianSense(on(stack["maps"]), on(stack["mask"]))
    b = C.adjoint(on(stack["kspace"]))
    volume = volume_kspace(32 if quick else 128).to(device)
    whole = Cartesian(mask=np.ones(volume.shape[1:], dtype=bool))
    prior = load_prior("mr-axial-256", device=device).denoiser
    return {
        "NUFFT forward, 8 coils, 256^2, 402 x 512": lambda: A(images),
        "NUFFT adjoint": lambda: A.adjoint(y),
        "Toeplitz gram of SENSE": lambda: S.gram(x),
        "CG-SENSE, 8 coils, 320^2 x 16, 20 iterations": lambda: (
            conjugate_gradients(
                C.gram, b, blocks=1, max_iterations=ITERATIONS, tolerance=1e-12
            ).value
        ),
        "ESPIRiT, 8 coils, 128^3": lambda: estimate_maps(volume, whole, noise_std=1e-3),
        "prior, 16 slices of 320^2": lambda: prior(b / b.abs().max(), 0.1),
    }


def volume_kspace(size: int) -> Tensor:
    """A soft ball seen by 8 coils, with a little noise."""
    axis = torch.linspace(-1, 1, size)
    r2 = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    ball = torch.sigmoid((0.6 - r2) * 20)
    maps = coil_sensitivities(Grid.centred((size,) * 3, (1.0, 1.0, 1.0)), 8)
    generator = torch.Generator().manual_seed(0)
    kspace = image_to_kspace(maps * ball, (-3, -2, -1))
    noise = torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
    return kspace + 1e-3 * noise


def timed(step: Step, device: str) -> tuple[Tensor, float]:
    """Best of five after one that plans and compiles."""
    step()
    best = float("inf")
    for _ in range(5 if device != "cpu" else 1):
        synchronise(device)
        begin = time.perf_counter()
        result = step()
        synchronise(device)
        best = min(best, time.perf_counter() - begin)
    return result.cpu(), best


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small data")
    arguments = parser.parse_args()
    device = arguments.device
    expected = {name: step().cpu() for name, step in steps("cpu", arguments.quick).items()}
    rows = []
    for name, step in steps(device, arguments.quick).items():
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        found, seconds = timed(step, device)
        truth = expected[name]
        row = {
            "case": name,
            "seconds": float(f"{seconds:.3g}"),
            "difference": float(f"{float((found - truth).norm() / truth.norm()):.3g}"),
        }
        if device.startswith("cuda"):
            row["peak_GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        rows.append(row)
    if arguments.json:
        print(json.dumps({"device": device, "torch": torch.__version__, "rows": rows}, indent=2))
        return
    for row in rows:
        print("  ".join(f"{value!s:>45}" for value in row.values()))


if __name__ == "__main__":
    main()
