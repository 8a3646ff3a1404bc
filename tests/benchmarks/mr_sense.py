"""How fast is CG-SENSE, and is it the same answer as that of sigpy?

Run ``python tests/benchmarks/mr_sense.py [--json] [--threads N]``. The case: 8 coils, 320 x 320 x
16 slices, uniform undersampling by 4 with a fully sampled middle of 8 %, 20 iterations from zero,
no regularisation, complex64. ``error`` is the NRMSE against the true image.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable

import numpy as np
import sigpy as sp
import sigpy.mri
import torch
from torch import Tensor

from medrecon.grid import Grid
from medrecon.operators.cartesian import CartesianSense
from medrecon.sampling_masks import cartesian_mask
from medrecon.simulate_mr import coil_sensitivities
from medrecon.solvers.cg import conjugate_gradients

ITERATIONS = 20


def case(slices: int, size: int, coils: int, noise: float = 0.01):
    """True image ``(z, y, x)``, maps, mask, and noisy centred k-space."""
    generator = torch.Generator().manual_seed(0)
    grid = Grid.centred((slices, size, size), (3.3, 0.7, 0.7))
    phantom = torch.from_numpy(sp.shepp_logan((size, size)).astype(np.complex64))
    truth = phantom * torch.linspace(0.8, 1.2, slices)[:, None, None]
    maps = coil_sensitivities(grid, coils).transpose(0, 1).contiguous()
    mask = torch.from_numpy(
        cartesian_mask(
            (size, size),
            pattern="uniform",
            acceleration=1 / (0.08 + 0.92 / 4),  # every fourth line beside the middle
            calibration_lines=round(0.08 * size),
            generator=generator,
        )
    )
    operator = CartesianSense(maps, mask)
    y = operator(truth)
    y = y + noise * torch.randn(y.shape, dtype=y.dtype, generator=generator) * mask
    return truth, maps, mask, y


def ours(maps: Tensor, mask: Tensor, y: Tensor) -> Tensor:
    operator = CartesianSense(maps, mask)
    b = operator.adjoint(y)
    return conjugate_gradients(
        operator.gram, b, blocks=1, max_iterations=ITERATIONS, tolerance=1e-12
    ).value


def shift_free_torch(maps: Tensor, mask: Tensor, y: Tensor) -> Tensor:
    """Plain batched torch with the shifts folded into the mask: the design's reference."""
    axes = (-2, -1)
    weight = torch.fft.ifftshift(mask, dim=axes)
    image = torch.fft.fftshift(
        torch.fft.ifft2(torch.fft.ifftshift(y * mask, dim=axes), norm="ortho"), dim=axes
    )
    b = (maps.conj() * image).sum(1)

    def gram(x: Tensor) -> Tensor:
        k = torch.fft.fft2(maps * x[:, None], norm="ortho") * weight
        images: Tensor = torch.fft.ifft2(k, norm="ortho")
        return (maps.conj() * images).sum(1)

    return conjugate_gradients(gram, b, blocks=1, max_iterations=ITERATIONS, tolerance=1e-12).value


def sigpy_slices(maps: Tensor, mask: Tensor, y: Tensor) -> Tensor:
    weights = mask.numpy().astype(np.float32)
    images = [
        sigpy.mri.app.SenseRecon(
            k.numpy(), s.numpy(), weights=weights, lamda=0, max_iter=ITERATIONS, show_pbar=False
        ).run()
        for k, s in zip(y, maps, strict=True)
    ]
    return torch.from_numpy(np.stack(images))


SOLVERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "medrecon": ours,
    "torch, shift-free": shift_free_torch,
    "sigpy SenseRecon": sigpy_slices,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--coils", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    truth, maps, mask, y = case(arguments.slices, arguments.size, arguments.coils)
    name = f"{arguments.coils}x{arguments.size}x{arguments.size}x{arguments.slices}"
    rows = []
    for library, solve in SOLVERS.items():
        solve(maps[:1], mask, y[:1])  # plans and caches
        wall, cpu = time.perf_counter(), time.process_time()
        x = solve(maps, mask, y)
        rows.append(
            {
                "case": name,
                "library": library,
                "wall_s": round(time.perf_counter() - wall, 3),
                "cpu_s": round(time.process_time() - cpu, 3),
                "error": round(float((x - truth).norm() / truth.norm()), 5),
            }
        )
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "threads": arguments.threads,
        "torch": torch.__version__,
        "sigpy": sp.__version__,
        "acceleration": round(float(mask.numel() / mask.sum()), 3),
    }
    if arguments.json:
        print(json.dumps({"machine": machine, "rows": rows}, indent=2))
        return
    print(machine)
    for row in rows:
        print("  ".join(f"{value!s:>20}" for value in row.values()))


if __name__ == "__main__":
    main()
