"""How does medrecon compare with the published DDS loop, given the same network and operator?

Takes a clone of the published code (github.com/hyungjin-chung/DDS), which is not part of this
project, and runs its own reverse loop with medrecon's prior and data term: as it was released, and
with what is wrong in it repaired. Beside it run this package's presets, on the same scan::

    python tests/benchmarks/published_dds.py --clone DDS --json

A preset is written ``PRESET@STEPS``, with ``/N`` where its start is cut to N iterations. Printed
are PSNR, calls of the network and seconds of every run, and the ratio of times at equal quality:
the time of the published loop over that of the fastest ``medrecon`` run that is at least as good.
Cases are those of ``medrecon benchmark``; MR takes one slice, as the published loop does.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from medrecon.benchmark.learned import alone, sample, sampling
from medrecon.benchmark.scan import Setting, scans_of
from medrecon.benchmark.score import psnr, quality, truth_of
from medrecon.benchmark.suites import SUITES
from medrecon.priors.weights import load_prior
from tests.benchmarks.published_loop import run_published

CASES = ("ct-sparse/fan-32", "mr-cartesian/uniform-x4")
OURS = (
    "dds@50",
    "dds-released@50",
    *(f"medrecon@{steps}" for steps in ("2/10", "3/20", "4/20", 4, 8, 20)),
)
ROOT = Path(__file__).parents[2]
Row = dict[str, Any]


def setting_of(name: str, slices: int, image: Path | None) -> Setting:
    """Find a case by ``SUITE/NAME``."""
    suite, _, wanted = name.partition("/")
    case = next(case for case in SUITES[suite] if case.name == wanted)
    most = 1 if case.modality == "MR" else slices
    return scans_of(case, ROOT / "data", image, most)


def published(setting: Setting, clone: Path, steps: int, seed: int) -> Iterator[Row]:
    """Run the published loop, as released and repaired."""
    protocol = setting.load()
    assert protocol.prior is not None
    prior = load_prior(protocol.prior.name)
    problem = setting.scan(seed).problem()
    truth = truth_of(problem.study)
    forms = [("as released", False, False), ("repaired", True, False)]
    if torch.as_tensor(problem.data.precision).ndim > 0:
        forms.append(("repaired, weighted", True, True))
    for form, correct, weighted in forms:
        outcome = run_published(
            clone,
            prior,
            problem.data,
            truth,
            correct=correct,
            weighted=weighted,
            steps=steps,
            seed=seed,
        )
        image = outcome.image.float()
        if problem.data.operator.domain.complex:
            image = image + 0j
        yield {
            "method": f"published, {form}",
            "psnr": round(quality(problem, image), 2),
            "calls": outcome.calls,
            "seconds": round(outcome.seconds, 1),
            "cpu_seconds": round(outcome.cpu_seconds, 1),
        }


def ours(setting: Setting, names: Sequence[str], seed: int) -> Iterator[Row]:
    """Run this package's presets; times include the reconstruction that they start from."""
    scan = setting.scan(seed)
    for name in names:
        method, _, most = name.partition("/")
        protocol = alone(
            setting.load(sampling(method).changes(setting.load().modality)),
            int(most) if most else None,
        )
        events = sample(scan.study, protocol, seed=seed, device="cpu")
        worked = time.process_time()
        try:
            while True:
                next(events)
        except StopIteration as end:
            result, facts = end.value
        worked = time.process_time() - worked
        found = psnr(result.volume.data, truth_of(scan.study), result.report["data_range"])
        yield {
            "method": name,
            "psnr": round(found, 2),
            "calls": facts["calls"],
            "seconds": facts["seconds"],
            "cpu_seconds": round(worked, 1),
            "seconds_of_start": facts["seconds_of_start"],
        }


def at_equal_quality(rows: Sequence[Row]) -> Iterator[Row]:
    """Ratio of times of each other row and the fastest ``medrecon`` that is at least as good.

    Of processor times: those do not change with what else the machine does.
    """
    own = [row for row in rows if row["method"].startswith("medrecon@")]
    for row in rows:
        if row in own:
            continue
        good = [one for one in own if one["psnr"] >= row["psnr"]]
        best = min(good, key=lambda one: one["cpu_seconds"], default=None)
        yield {
            "against": row["method"],
            "by": best and best["method"],
            "ratio": best and round(row["cpu_seconds"] / best["cpu_seconds"], 1),
        }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clone", type=Path, required=True, help="folder of the published code")
    parser.add_argument("--cases", nargs="+", default=CASES, help="SUITE/NAME of the benchmark")
    parser.add_argument("--methods", nargs="+", default=OURS, help="PRESET@STEPS or PRESET@STEPS/N")
    parser.add_argument("--slices", type=int, default=3, help="slices of CT")
    parser.add_argument("--steps", type=int, default=50, help="steps of the published loop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--image", type=Path, help="image to measure in place of the samples")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    for name in given.cases:
        setting = setting_of(name, given.slices, given.image)
        head = {"case": name, "slices": setting.slices, "threads": torch.get_num_threads()}
        rows: list[Row] = []
        list(ours(setting, ("medrecon@1",), given.seed))  # compiles what is compiled
        runs = (
            published(setting, given.clone.resolve(), given.steps, given.seed),
            ours(setting, given.methods, given.seed),
        )
        for run in runs:
            for row in run:
                rows.append(row)
                print(json.dumps(head | row) if given.json else _line(name, row), flush=True)
        for row in at_equal_quality(rows):
            print(json.dumps(head | row) if given.json else _ratio(name, row), flush=True)


def _line(case: str, row: Row) -> str:
    return (
        f"{case:26} {row['method']:26} {row['psnr']:6.2f} dB {row['calls']:5d} calls "
        f"{row['seconds']:8.1f} s ({row['cpu_seconds']:.1f} s of the processor)"
    )


def _ratio(case: str, row: Row) -> str:
    if row["by"] is None:
        return f"{case:26} no run of medrecon is as good as {row['against']}"
    return f"{case:26} {row['against']} takes {row['ratio']} times as long as {row['by']}"


if __name__ == "__main__":
    main()
