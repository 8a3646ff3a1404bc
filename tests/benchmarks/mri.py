"""How fast and how exact are the MR operators, beside BART, sigpy and the others?

Every contestant runs in a process of its own on the same arrays and as many threads::

    python -m tests.benchmarks.mri --json
    python -m tests.benchmarks.mri --case nufft --peers OTHER_VENV/bin/python

``--peers`` names another interpreter in which further libraries are looked for.  One that does not
end within its time is reported, not waited for.

- ``nufft``: 8 coils, 256 x 256, 402 spokes of 512 samples; errors against sums in double precision.
- ``toeplitz``: ``A^H A`` of the same; ours with coil maps, the others' of the 8 coil images.
- ``cg_sense``: 8 coils, 320 x 320 x 16, every fourth line and 8 % calibration lines, 20 iterations
  from zero without regularisation; NRMSE against the true image.
- ``espirit_2d``, ``espirit_3d``: maps of 8 coils from 24 calibration lines, 256^2 and 128^3; share
  of the true coil images that lies beside the maps.

``ratio`` is the CPU time over ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.mri_cases import DATA, JUDGES
from tests.benchmarks.mri_ours import NAME
from tests.benchmarks.mri_timing import Arrays

ROOT = Path(__file__).parents[2]
OURS, PEERS = "tests.benchmarks.mri_ours", "tests.benchmarks.mri_peers"
LIMITS = {"nufft": 60, "toeplitz": 60, "cg_sense": 120, "espirit_2d": 60, "espirit_3d": 100}
"""Seconds that a contestant may take in all, imports and set-up included."""

BARS = {
    ("nufft", "forward"): {"error": 1e-5},
    ("nufft", "adjoint"): {"error": 1e-5},
    ("toeplitz", "run"): {"wall_s": 0.08},
    ("cg_sense", "run"): {"cpu_s": 6.1},
    ("espirit_2d", "run"): {"error": 0.001, "wall_s": 2.2},
    ("espirit_3d", "run"): {"wall_s": 20.0, "peak_GiB": 2e9 / 2**30},
}
"""What ours has to keep; beside finufft alone and BART see :func:`verdicts`."""


def environment(threads: int) -> dict[str, str]:
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    fixed = {f"{name}_NUM_THREADS": str(threads) for name in names}
    return {**os.environ, **fixed, "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}


def child(words: list[str], threads: int, seconds: float) -> str:
    """Run a process with its children, and end all of them if it takes longer.

    Raises
    ------
    RuntimeError
        Why there is no result.
    """
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment(threads),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise RuntimeError(f"did not finish in {seconds:g} s") from None
    if process.returncode:
        last = next((line for line in reversed(err.splitlines()) if line.strip()), "")
        raise RuntimeError(last.strip()[:200] or f"ended with {process.returncode}")
    return out


def contestants(peers: str | None) -> list[tuple[str, str, str, str]]:
    """Case, library, interpreter and module; a library that both have runs in ours."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    places = [(sys.executable, OURS), (sys.executable, PEERS), *([(peers, PEERS)] if peers else [])]
    for interpreter, module in places:
        listed = json.loads(child([interpreter, "-m", module], 1, 120).splitlines()[-1])
        for case, names in listed.items():
            for name in names:
                found.setdefault((case, name), (interpreter, module))
    return [(*key, *where) for key, where in found.items()]


def compete(
    case: str, library: str, words: list[str], home: Path, arrays: Arrays, threads: int
) -> list[dict[str, Any]]:
    """One contestant's rows; where it fails, one row that says why."""
    row: dict[str, Any] = {"case": case, "library": library}
    try:
        out = child([*words, case, library, str(home), str(threads)], threads, LIMITS[case])
    except RuntimeError as error:
        return [row | {"failed": str(error)}]
    report = json.loads(out.splitlines()[-1])
    results = {step: np.load(home / f"result_{step}.npy") for step in report["steps"]}
    errors = JUDGES[case](arrays, results)
    common = {key: round(report[key], 3) for key in ("setup_wall_s", "setup_cpu_s", "peak_GiB")}
    return [
        row | {"step": step, **rounded(times), "error": float(f"{errors[step]:.5g}"), **common}
        for step, times in report["steps"].items()
    ]


def rounded(times: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{seconds:.4g}") for name, seconds in times.items()}


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ours = {(r["case"], r["step"]): r for r in rows if r["library"] == NAME and "step" in r}
    for row in rows:
        own = ours.get((row["case"], row.get("step")))
        if own and "cpu_s" in row:
            row["ratio"] = round(row["cpu_s"] / own["cpu_s"], 2)
    return rows


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Ours against the bars, one sentence each."""
    said = []
    for row in rows:
        if row["library"] != NAME:
            continue
        step = str(row.get("step"))
        for key, most in BARS.get((row["case"], step), {}).items():
            kept = "kept" if row[key] <= most else "MISSED"
            said.append(f"{kept}: {row['case']} {step}, {key} {row[key]:g} (bar {most:.3g})")
        others = [r for r in rows if r["case"] == row["case"] and r.get("step") == step]
        plain = [r for r in others if r["library"].startswith("finufft") and r["error"] <= 1e-5]
        if row["case"] == "nufft" and plain:
            fastest = min(plain, key=lambda r: r["cpu_s"])
            ratio = row["cpu_s"] / fastest["cpu_s"]
            kept = "kept" if ratio <= 1.2 else "MISSED"
            said.append(
                f"{kept}: nufft {step}, {ratio:.2f} times {fastest['library']} alone, the fastest "
                "of its settings that keeps 1e-5 (bar 1.2)"
            )
        if row["case"] == "cg_sense":
            for other in others:
                if other["library"] == "BART pics":
                    apart = abs(row["error"] / other["error"] - 1)
                    kept = "kept" if apart <= 1e-3 else "MISSED"
                    said.append(f"{kept}: NRMSE {apart:.1e} from that of BART (bar 1e-3)")
    return said


def machine(threads: int) -> dict[str, Any]:
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "threads": threads,
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--case", choices=[*DATA, "all"], default="all")
    parser.add_argument("--only", help="libraries whose name holds this, and ours")
    parser.add_argument("--peers", help="another Python interpreter with further libraries")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small data, to see that all runs")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    everybody = contestants(arguments.peers)
    rows: list[dict[str, Any]] = []
    for case, (make, full, small) in DATA.items():
        if arguments.case not in (case, "all"):
            continue
        with tempfile.TemporaryDirectory(prefix="mri") as folder:
            home = Path(folder)
            (home / case).mkdir()
            arrays = make(small if arguments.quick else full)
            for name, array in arrays.items():
                np.save(home / case / f"{name}.npy", array)
            for at, library, interpreter, module in everybody:
                wanted = not arguments.only or library == NAME or arguments.only in library
                if at == case and wanted:
                    words = [interpreter, "-m", module]
                    new = compete(case, library, words, home, arrays, arguments.threads)
                    rows += new
                    print(*(json.dumps(row) for row in new), sep="\n", file=sys.stderr, flush=True)
    rows = with_ratios(rows)
    report = {"machine": machine(arguments.threads), "rows": rows, "verdicts": verdicts(rows)}
    if arguments.json:
        print(json.dumps(report, indent=2))
        return
    print(report["machine"])
    columns = ("case", "library", "step", "wall_s", "cpu_s", "ratio", "error", "peak_GiB", "failed")
    for row in [dict(zip(columns, columns, strict=True)), *rows]:
        print("  ".join(f"{row.get(name, '')!s:>12}" for name in columns))
    print(*report["verdicts"], sep="\n")


if __name__ == "__main__":
    main()
