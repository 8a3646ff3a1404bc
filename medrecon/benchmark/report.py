"""What a benchmark writes: the table, the plots and the contact sheets."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from medrecon.benchmark.pictures import contact_sheet
from medrecon.benchmark.rows import Row
from medrecon.io.outputs import whole_file, write_json

TABLE, PLOT, ROWS = "table.md", "quality.png", "rows.json"
_COLUMNS = (
    "| method | PSNR, dB | SSIM axial / coronal / sagittal | NRMSE | calls | seconds | MB "
    "| misfit | |"
)
_RULE = "|---|---|---|---|---|---|---|---|---|"
_CLOSE = 0.2  # dB, what the prior may lose beside total variation


def write_report(folder: Path, rows: Sequence[Row]) -> list[str]:
    """Write table, plot and contact sheets of rows; returns the files' names.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    rows = [row for row in rows if not row.get("trial")]
    write_json(folder / ROWS, rows)
    with whole_file(folder / TABLE) as part:
        part.write_text(table(rows), encoding="utf-8")
    names = [ROWS, TABLE]
    if any(row["calls"] for row in rows):
        plot(folder / PLOT, rows)
        names.append(PLOT)
    for suite, case in _cases(rows):
        first = [r for r in rows if (r["suite"], r["case"], r["seed"]) == (suite, case, 0)]
        path = folder / f"{suite}-{case}.png"
        if first:
            contact_sheet(folder, first, path)
        if path.exists():
            names.append(path.name)
    return names


def _cases(rows: Iterable[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row["suite"], row["case"]) for row in rows))


def _of(rows: Sequence[Row], suite: str, case: str) -> dict[str, list[Row]]:
    """Rows of a case by method, a row for each seed."""
    methods: dict[str, list[Row]] = {}
    for row in rows:
        if (row["suite"], row["case"]) == (suite, case):
            methods.setdefault(_name(row), []).append(row)
    return methods


def _name(row: Row) -> str:
    return " ".join([row["method"], *row.get("changes", ())])


def table(rows: Sequence[Row]) -> str:
    """Write rows as Markdown: means over seeds, of several with the deviation of the PSNR.

    The last line of a case says what the best sampler gains beside tuned total variation.
    """
    lines = ["# Benchmark", ""]
    if any(row.get("quick") for row in rows):
        lines += [
            "A quick look: two slices, few iterations, nothing tuned. No figures to quote.",
            "",
        ]
    for suite, case in _cases(rows):
        methods = _of(rows, suite, case)
        some = next(iter(methods.values()))
        seeds = f"{len(some)} seed" + "s" * (len(some) > 1)
        lines += [f"## {suite}: {case}", "", f"{some[0]['slices']} slices, {seeds}.", ""]
        lines += [_COLUMNS, _RULE]
        lines += [_line(name, found) for name, found in methods.items()]
        lines += ["", *(f"{text}  " for text in verdicts(methods)), ""]
    return "\n".join(lines)


def _line(name: str, rows: list[Row]) -> str:
    first = rows[0]
    quality = _mean(rows, "psnr", 2)
    values = [row["psnr"] for row in rows if row["psnr"] is not None]
    if len(values) > 1:
        quality += f" ± {statistics.stdev(values):.2f}"
    ssim = " / ".join(
        f"{plane['ssim']:.3f}" if "ssim" in plane else "-" for plane in first["planes"].values()
    )
    cells = [name, quality, ssim, _mean(rows, "nrmse", 4), _mean(rows, "calls", 0)]
    cells += [_mean(rows, "seconds", 1), _mean(rows, "peak_mb", 0), _mean(rows, "misfit", 2)]
    return f"| {' | '.join([*cells, _remarks(first)])} |"


def _mean(rows: list[Row], key: str, digits: int) -> str:
    values = [row[key] for row in rows if row.get(key) is not None]
    return f"{statistics.fmean(values):.{digits}f}" if values else "-"


def _remarks(row: Row) -> str:
    said = []
    if row.get("filter"):
        said.append(row["filter"])
    if row.get("weight") is not None:
        said.append(f"weight {row['weight']:g}")
    if row["calls"] == 0 and row.get("iterations"):
        end = "" if row.get("settled") else ", still rising"
        said.append(f"{row['iterations']} iterations{end}")
    if "recovery" in row:
        said.append(f"lesion {row['recovery']:.2f}, invented {row['invented']:+.2f}")
    return ", ".join(said)


def verdicts(methods: dict[str, list[Row]]) -> list[str]:
    """Say what samplers gain beside total variation, in one sentence each."""
    known = {name: _psnr(rows) for name, rows in methods.items()}
    base = known.get("tv")
    if base is None:
        return []
    said = []
    for name, value in known.items():
        if value is None or not methods[name][0]["calls"]:
            continue
        gain = value - base
        worse = "" if gain >= -_CLOSE else ": WORSE than total variation"
        safety = methods[name][0].get("safety")
        if worse and safety:
            worse += ", unnoticed by the run" if safety["fits"] else ", as the run itself says"
        said.append(f"{name}: {gain:+.2f} dB beside total variation{worse}.")
    return said


def _psnr(rows: list[Row]) -> float | None:
    values = [row["psnr"] for row in rows if row["psnr"] is not None]
    return statistics.fmean(values) if values else None


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Draw PSNR against network calls, a panel for each case; classical methods are levels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cases = _cases(rows)
    across = min(4, len(cases))
    down = -(-len(cases) // across)
    figure = Figure(figsize=(3.6 * across, 2.9 * down), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, squeeze=False).flat
    for ax in list(panels)[len(cases) :]:
        ax.set_axis_off()
    for ax, (suite, case) in zip(figure.axes, cases, strict=False):
        _panel(ax, _of(rows, suite, case))
        ax.set_title(f"{suite}: {case}", fontsize=9)
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=110, metadata={"Software": None})


def _panel(ax: Any, methods: dict[str, list[Row]]) -> None:
    curves: dict[str, list[tuple[float, float]]] = {}
    for number, (name, found) in enumerate(methods.items()):
        value = _psnr(found)
        if value is None:
            continue
        calls = statistics.fmean(row["calls"] for row in found)
        if calls == 0:
            ax.axhline(value, color=f"C{number}", linestyle="--", linewidth=1, label=name)
        else:
            curves.setdefault(name.partition("@")[0], []).append((calls, value))
    for preset, points in curves.items():
        x, y = zip(*sorted(points), strict=True)
        ax.plot(x, y, marker="o", markersize=4, label=preset)
    ax.set_xlabel("network calls", fontsize=8)
    ax.set_ylabel("PSNR, dB", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.legend(fontsize=6)
