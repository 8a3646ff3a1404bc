"""Time one contestant in a process of its own: wall, CPU of it and its children, peak memory.

Needs NumPy alone, so that it runs in any interpreter.  A *contestant* is a function that takes the
case's arrays and returns what is to be timed, by name; what it does before returning (plans,
kernels, the compiler) counts as set-up.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]
Steps = dict[str, Callable[[], Array]]
Contestant = Callable[[Arrays], Steps]
Contestants = dict[str, dict[str, Contestant]]
"""Case to library to contestant."""

LONG = 3.0  # seconds of repetitions after which no further one is begun
REPEATS = 5


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def peak_gib() -> float:
    """Largest resident memory of this process, or of a child where that was more.

    Not ``ru_maxrss`` of the process itself: Linux lets it begin with what the parent had.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    status = Path("/proc/self/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return max(children, own) / 2**20


def measure(step: Callable[[], Array]) -> tuple[Array, dict[str, float]]:
    """Run a step up to five times; the least wall time and the least CPU time count."""
    walls: list[float] = []
    cpus: list[float] = []
    while len(walls) < REPEATS and sum(walls) < LONG:
        wall, cpu = time.perf_counter(), cpu_seconds()
        result = step()
        walls.append(time.perf_counter() - wall)
        cpus.append(cpu_seconds() - cpu)
    return result, {"wall_s": min(walls), "cpu_s": min(cpus), "runs": len(walls)}


def take_part(contestants: Contestants, arguments: list[str]) -> None:
    """Run ``CASE LIBRARY FOLDER THREADS``: read arrays from the folder, leave results beside.

    Without arguments: print which contestants there are.
    """
    if not arguments:
        print(json.dumps({case: list(named) for case, named in contestants.items()}))
        return
    case, library, folder, _ = arguments
    home = Path(folder)
    files = [p for p in sorted((home / case).glob("*.npy")) if p.stem != "truth"]
    arrays = {p.stem: np.load(p) for p in files}
    wall, cpu = time.perf_counter(), cpu_seconds()
    steps = contestants[case][library](arrays)
    report: dict[str, Any] = {
        "setup_wall_s": time.perf_counter() - wall,
        "setup_cpu_s": cpu_seconds() - cpu,
        "steps": {},
    }
    for name, step in steps.items():
        result, report["steps"][name] = measure(step)
        np.save(home / f"result_{name}.npy", result)
    report["peak_GiB"] = peak_gib()
    sys.stdout.write("\n" + json.dumps(report) + "\n")
