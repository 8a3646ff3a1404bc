"""How good is the prior, beside classical methods at their best and the published samplers?

The suites of ``medrecon benchmark`` (docs/benchmarks.md), with rows as JSON::

    python -m tests.benchmarks.quality --suite ct-sparse --cases cone-32 --output out/quality
    python -m tests.benchmarks.quality --suite all --quick --json

A row is one method on one case with one seed: case, method, psnr, ssim, nrmse, calls, seconds,
peak_mb, misfit, seed. Rows are kept in the folder as they come, and a killed run goes on.

``--bars`` compares with what the project asks of itself: on CT total variation plus 4 dB at 32
views, 5 dB at 16, 2 dB over 90 degrees, 1 dB at low dose, all with 20 calls, plus 2 dB at 32 views
with 8 calls, and 1 dB above ``dds@50``; on MR the wavelets plus 1.5 dB; and never 0.2 dB below
total variation unless the run says so.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from medrecon.benchmark import SUITES, Row, Settings, benchmark, cases_of
from medrecon.benchmark.report import write_report
from medrecon.devices import resolve_device

ROOT = Path(__file__).parents[2]
OURS = "medrecon@20"
BARS: dict[str, tuple[tuple[str, str, float], ...]] = {
    "ct-sparse cone-32": ((OURS, "tv", 4.0), ("medrecon@8", "tv", 2.0), (OURS, "dds@50", 1.0)),
    "ct-sparse fan-32": ((OURS, "tv", 4.0), ("medrecon@8", "tv", 2.0), (OURS, "dds@50", 1.0)),
    "ct-sparse cone-16": ((OURS, "tv", 5.0), (OURS, "dds@50", 1.0)),
    "ct-sparse fan-16": ((OURS, "tv", 5.0), (OURS, "dds@50", 1.0)),
    "ct-limited cone-90deg": ((OURS, "tv", 2.0), (OURS, "dds@50", 1.0)),
    "ct-limited fan-90deg": ((OURS, "tv", 2.0), (OURS, "dds@50", 1.0)),
    **{
        f"ct-low-dose {case.name}": ((OURS, "tv", 1.0), (OURS, "dds@50", 1.0))
        for case in SUITES["ct-low-dose"]
    },
    **{f"mr-cartesian {case.name}": ((OURS, "wavelet", 1.5),) for case in SUITES["mr-cartesian"]},
}
"""Case to (method, beside which, dB at least)."""
LOSS = 0.2


def judged(rows: list[Row]) -> Iterator[tuple[bool, str]]:
    """Every bar that the rows can answer, kept or missed; means over seeds."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        methods = found.setdefault(f"{row['suite']} {row['case']}", {})
        methods.setdefault(row["method"], []).append(row)
    for case, methods in found.items():
        psnr = {name: sum(r["psnr"] for r in some) / len(some) for name, some in methods.items()}
        for method, other, bar in BARS.get(case, ()):
            if method in psnr and other in psnr:
                gain = psnr[method] - psnr[other]
                yield gain >= bar, f"{case}: {method} {gain:+.2f} dB beside {other} (bar {bar:g})"
        for name, some in methods.items():
            if name.startswith("medrecon@") and "tv" in psnr and psnr[name] < psnr["tv"] - LOSS:
                said = all(not row.get("safety", {}).get("fits", True) for row in some)
                loss = psnr["tv"] - psnr[name]
                yield said, f"{case}: {name} loses {loss:.2f} dB to total variation, and says so"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="all", help=f"all, {', '.join(SUITES)}")
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--methods", nargs="*", default=[])
    parser.add_argument("--set", nargs="*", default=[], dest="changes")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--slices", type=int)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--output", type=Path, help="keep rows, table, plots and pictures here")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--bars", action="store_true", help="exit with 1 if a bar is missed")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = Settings(
        data=ROOT / "data",
        image=arguments.image,
        methods=tuple(arguments.methods),
        seeds=arguments.seeds,
        slices=arguments.slices,
        changes=tuple(arguments.changes),
        quick=arguments.quick,
        device=resolve_device(arguments.device),
    )
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    cases = cases_of(arguments.suite, arguments.cases)
    for one in benchmark(cases, settings, arguments.output):
        if isinstance(one, dict):
            rows.append(one)
            print(json.dumps(one) if arguments.json else _line(one), flush=True)
    if arguments.output is not None:
        write_report(arguments.output, rows)
    kept = True
    for is_kept, text in judged(rows) if arguments.bars else ():
        kept = kept and is_kept
        print(f"{'kept  ' if is_kept else 'MISSED'} {text}")
    if not arguments.json:
        print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads")
    return 0 if kept else 1


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['suite']:13} {row['case']:16} {row['method']:16} seed {row['seed']} "
        f"{row['psnr']:6.2f} dB {row['calls']:4} calls {row['seconds']:8.1f} s "
        f"{row['peak_mb'] or 0:7.0f} MB, misfit {row['misfit'] or 0:.2f}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
