"""Where a sampler's time goes, and what makes it shorter: seconds, memory, iterations, calls.

    python -m tests.benchmarks.sampler_speed [--network] [--memory] [--steps] [--skip]
                                             [--device cuda] [--size 256] [--slices 3] [--json]

``--network``: seconds per slice by batch and precision, and what precision costs in dB. On the
CPU seconds of processor time, which others at work on the machine do not lengthen.
``--memory``: predicted and measured bytes of a forward pass (a process for each).
``--steps``: iterations of the data step and PSNR by preconditioner, tolerance and warm start.
``--skip``: PSNR by calls of the network, left out or not.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medrecon.baselines import total_variation
from medrecon.io.read import read_image
from medrecon.priors.batching import plan_batch
from medrecon.priors.precision import rounding_loss_db
from medrecon.priors.slicewise import Slicewise
from medrecon.priors.weights import load_prior
from medrecon.problem import Problem, ct_problem
from medrecon.protocol_files import load_protocol
from medrecon.sampling.consistency import CGSettings, Consistency
from medrecon.sampling.counting import Counted
from medrecon.sampling.data_step import ErrorVariance, ProximalStep
from medrecon.sampling.denoise import Tweedie
from medrecon.sampling.loop import Method, sample
from medrecon.sampling.noise import SliceNoise
from medrecon.sampling.renoise import DDS
from medrecon.sampling.schedule import karras_sigmas
from medrecon.sampling.skipping import Skipping
from medrecon.sampling.start import NoisyStart
from medrecon.simulate import simulate
from medrecon.solvers.preconditioner import PRECONDITIONERS
from medrecon.volume import Unit, Volume

Row = dict[str, Any]
IMAGE = Path(__file__).parents[2] / "data" / "chest_ct.nii.gz"
FAN = "{kind: fan, views: 32, arc_deg: 360.0, source_to_axis_mm: 1000.0, " + (
    "source_to_detector_mm: 1500.0, columns: 384, column_spacing_mm: 2.1, photons: 1.0e+5}"
)
PRECISIONS = (torch.float32, torch.bfloat16)


def seconds(call: Callable[[], object], device: str, repeats: int = 3) -> float:
    """Shortest time of a call, after one that does not count; of all threads on the CPU."""
    on_gpu = device.startswith("cuda")
    clock = time.perf_counter if on_gpu else time.process_time
    best = math.inf
    for _ in range(repeats + 1):
        begin = clock()
        call()
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, clock() - begin)
    return best


def network(device: str, size: int, prior_name: str) -> Iterator[Row]:
    """Seconds per slice, by batch and precision, launched or replayed."""
    prior = load_prior(prior_name, device=device).denoiser
    graphs = (False, True) if device.startswith("cuda") else (False,)
    batches = (1, 2, 4, 8, 32, 64) if device.startswith("cuda") else (1, 2, 4, 8)
    for batch in batches:
        x = torch.randn(batch, size, size, device=device)
        for precision in PRECISIONS:
            for graph in graphs:
                asked = replace(prior, batch=batch, precision=precision, graphs=graph)
                yield {
                    "batch": batch,
                    "precision": str(precision).removeprefix("torch."),
                    "graph": graph,
                    "s_per_slice": round(seconds(partial(asked, x, 0.3), device) / batch, 5),
                }

    def denoise(x: Tensor, sigma: float, kind: torch.dtype) -> Tensor:
        return replace(prior, precision=kind)(x, sigma)

    for level in prior.levels:
        loss = rounding_loss_db(denoise, (level,), torch.bfloat16, channels=1, device=device)
        yield {"sigma": level[0], "loss_db": round(loss, 5)}


def memory(device: str, size: int, prior_name: str) -> Iterator[Row]:
    """Bytes predicted and taken, a process for each so that nothing is left from before."""
    for batch in (1, 4, 8):
        for precision in ("float32", "bfloat16"):
            arguments = [device, str(size), prior_name, str(batch), precision]
            command = [sys.executable, "-m", "tests.benchmarks.sampler_speed", "--one", *arguments]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            yield json.loads(out)


def one(device: str, size: str, prior_name: str, batch: str, precision: str) -> Row:
    """Memory of one forward pass in this process."""
    prior = load_prior(prior_name, batch=int(batch), device=device, precision=precision).denoiser
    x = torch.randn(int(batch), int(size), int(size), device=device)
    plan = plan_batch(prior, x.shape, device=device, available=math.inf, at_most=int(batch))
    before = _resident("VmRSS")
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    prior(x, 0.3)
    on_gpu = device.startswith("cuda")
    after = torch.cuda.max_memory_allocated() if on_gpu else _resident("VmHWM")
    return {
        "batch": int(batch),
        "precision": precision,
        "predicted_mib": round(plan.activations / 2**20),
        "measured_mib": round((after - before) / 2**20),
    }


def _resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    return 0


@dataclass(frozen=True, eq=False)
class Case:
    """A few slices of the chest in a fan beam of 32 views, from converged enough TV."""

    problem: Problem
    prior: Slicewise
    start: Tensor
    truth: Tensor

    def psnr(self, estimate: Tensor) -> float:
        """In the range of the prior, dB."""
        error = (estimate.clamp(-1, 1) - self.truth.clamp(-1, 1)).square().mean()
        return float(10 * torch.log10(4 / error))


def case(device: str, slices: int, prior_name: str) -> Case:
    """Measure the chest and reconstruct it by TV."""
    settings = (
        "baselines.0.method=fbp", f"grid.shape=[{slices}, 256, 256]", f"acquisition={FAN}",
    )  # fmt: skip
    protocol = load_protocol("ct_cone_sparse", settings)
    image, _ = read_image(IMAGE)
    first = 16 - slices // 2
    slab = image.grid.slab(first, first + slices)
    volume = Volume(image.data[first : first + slices].clone(), slab, Unit.HU)
    study = simulate(volume, protocol, seed=0)
    prior = load_prior(prior_name, device=device, precision="auto")
    low, high = prior.card.intensity.window_hu or (-1000.0, 1600.0)
    problem = ct_problem(study, protocol, device=device, window_hu=(low, high))
    for state in total_variation(problem.data, problem.grid.spacing, weight=40.0, iterations=40):
        start = state.value
    measured = volume.data if study.reference is None else study.reference  # as the scanner lies
    truth = (measured.to(device) - low) / (high - low) * 2 - 1
    return Case(problem, prior.denoiser, start, truth)


def sampled(case: Case, count: int, cg: CGSettings, skip: float = 0.0) -> Row:
    """Run the medrecon preset's law and say what it took."""
    counted = Counted(case.prior)
    sigmas = karras_sigmas(count, 0.5, 0.01)
    asked = Skipping(counted, skip, end=sigmas[max(0, count - 4)]) if skip else counted
    step = ProximalStep(Consistency(case.problem.data, cg), ErrorVariance(counted, 8.0))
    method = Method(NoisyStart(case.start), Tweedie(asked), step, DDS(0.8))
    silence = SliceNoise(spacing=1.0, amount=0.0)
    draw = partial(silence, case.start, torch.Generator().manual_seed(0))
    begin, iterations = time.process_time(), 0
    for state in sample(method, sigmas, draw):
        iterations += state.iterations
    return {
        "steps": count,
        "calls": counted.calls,
        "iterations": iterations,
        "psnr": round(case.psnr(state.estimate), 2),
        "cpu_s": round(time.process_time() - begin, 2),
    }


def steps(case: Case) -> Iterator[Row]:
    """Iterations of the data step at what quality."""
    for name, tolerance, warm in (
        ("diagonal", 0.2, 0.0), ("diagonal", 0.2, 1.0), ("circulant", 0.2, 0.0),
        ("circulant", 0.2, 0.7), ("circulant", 0.1, 0.7), ("circulant", 0.1, 1.0),
    ):  # fmt: skip
        cg = CGSettings(
            max_iterations=60,
            tolerance=tolerance,
            preconditioner=PRECONDITIONERS[name],
            warm_start=warm,
        )
        chosen = {"preconditioner": name, "tolerance": tolerance, "warm_start": warm}
        yield {**chosen, **sampled(case, 10, cg)}


def skipped(case: Case) -> Iterator[Row]:
    """Quality by calls of the network."""
    cg = CGSettings(
        max_iterations=60,
        tolerance=0.1,
        preconditioner=PRECONDITIONERS["circulant"],
        warm_start=0.7,
    )
    for count, skip in ((20, 0.0), (15, 0.0), (13, 0.0), (20, 0.3), (20, 1.0), (20, 3.0)):
        yield {"skip": skip, **sampled(case, count, cg, skip)}


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for part in ("network", "memory", "steps", "skip", "json"):
        parser.add_argument(f"--{part}", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--slices", type=int, default=3)
    parser.add_argument("--prior", default="ct-axial-256")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(*asked.one)))
        return
    rows: list[Iterator[Row]] = []
    if asked.network:
        rows.append(network(asked.device, asked.size, asked.prior))
    if asked.memory:
        rows.append(memory(asked.device, asked.size, asked.prior))
    if asked.steps or asked.skip:
        scan = case(asked.device, asked.slices, asked.prior)
        rows += [steps(scan)] if asked.steps else []
        rows += [skipped(scan)] if asked.skip else []
    for row in (row for part in rows for row in part):
        words = "  ".join(f"{key} {value}" for key, value in row.items())
        print(json.dumps(row) if asked.json else words, flush=True)


if __name__ == "__main__":
    main()
