"""Is the total variation baseline of the demo tuned and converged? A sweep of its weight.

Simulates the demo's cone-beam scan and prints PSNR against the truth (range 2600 HU) every 20
ADMM iterations for each weight::

    python tests/benchmarks/ct_tv_sweep.py --weights 25 50 100 --iterations 160 --json
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from medrecon.baselines import total_variation
from medrecon.compare import compare_tensors
from medrecon.io.read import read_image
from medrecon.problem import ct_problem
from medrecon.protocol_files import load_protocol
from medrecon.simulate import simulate
from medrecon.volume import Unit, Volume

DATA = Path(__file__).parents[2] / "data" / "chest_ct.nii.gz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=float, nargs="+", default=[25.0, 50.0, 100.0])
    parser.add_argument("--iterations", type=int, default=160)
    parser.add_argument("--slices", type=int, nargs=2, default=(8, 24))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    first, last = options.slices
    protocol = load_protocol(
        "ct_cone_sparse",
        [f"grid.shape=[{last - first}, 256, 256]", f"acquisition.rows={last - first + 8}"],
    )
    image, _ = read_image(DATA)
    image = Volume(image.data[first:last], image.grid.slab(first, last), Unit.HU)
    problem = ct_problem(replace(simulate(image, protocol, seed=0)), protocol)
    reference = problem.study.reference
    assert reference is not None
    truth = (reference + 1000) / 1300 - 1
    rows = [{"case": "truth", "misfit": round(problem.data.misfit(truth), 3)}]
    start = problem.direct["fdk"]()
    for weight in options.weights:
        begin = time.process_time()
        for state in total_variation(
            problem.data,
            problem.grid.spacing,
            weight=weight,
            iterations=options.iterations,
            start=start,
        ):
            if state.iteration % 20 and state.iteration < options.iterations:
                continue
            volume = problem.to_volume(state.value)
            row = {
                "case": f"tv {weight:g}",
                "iteration": state.iteration,
                "psnr": round(compare_tensors(volume.data, reference, 2600.0).psnr, 3),
                "change": state.residual,
                "misfit": round(problem.data.misfit(state.value), 3),
                "cpu_s": round(time.process_time() - begin, 1),
            }
            rows.append(row)
            if not options.json:
                print(row, flush=True)
    if options.json:
        print(json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
