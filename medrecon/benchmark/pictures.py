"""Pictures of a benchmark: slices that are kept, and the contact sheet of a case."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.benchmark.lesions import Placed
from medrecon.benchmark.rows import Row
from medrecon.io.outputs import whole_file
from medrecon.volume import Unit, Volume

Picture = NDArray[np.float32]
_TRUTH = "truth"
_LUNG = (-1000.0, 400.0)
_HEAD = (-60.0, 120.0)
_DPI = 90


def folder_of(folder: Path, row: Row) -> Path:
    """Where a case's slices lie."""
    return folder / "pictures" / f"{row['suite']}-{row['case']}"


def keep_picture(
    folder: Path, row: Row, volume: Volume, truth: Volume, placed: Placed | None
) -> None:
    """Keep an axial and a coronal slice of a reconstruction, through the lesion if there is one.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    home = folder_of(folder, row)
    home.mkdir(parents=True, exist_ok=True)
    z, y = truth.grid.shape[0] // 2, truth.grid.shape[1] // 2
    if placed is not None:
        index = np.argwhere(placed.core(truth).numpy()).mean(0).round().astype(int)
        z, y = int(index[0]), int(index[1])
    for name, image in ((row["method"], volume), (_TRUTH, truth)):
        with whole_file(home / f"{name}.npz") as part:
            np.savez_compressed(
                part,
                axial=image.data[z].numpy().astype(np.float32),
                coronal=image.data[:, y].numpy().astype(np.float32)[::-1],
                aspect=np.float32(image.grid.spacing[0] / image.grid.spacing[2]),
                hu=np.bool_(image.unit is Unit.HU),
            )


def contact_sheet(folder: Path, rows: list[Row], path: Path) -> None:
    """Draw every method of a case: slice, error and coronal cut, with its figures.

    Parameters
    ----------
    folder
        The benchmark's.
    rows
        Of one case and seed 0, in the order of the columns.
    path
        PNG to make.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    home = folder_of(folder, rows[0])
    columns = [(_TRUTH, None), *((row["method"], row) for row in rows)]
    columns = [(name, row) for name, row in columns if (home / f"{name}.npz").exists()]
    if not columns:
        return
    truth = _load(home, _TRUTH)
    low, high = _window(truth, rows[0])
    cut = max(0.2, truth["coronal"].shape[0] * float(truth["aspect"]) / truth["axial"].shape[0])
    figure = Figure(figsize=(2.4 * len(columns), 2.4 * (2 + cut) + 0.5), facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(columns), squeeze=False, height_ratios=(1, 1, cut))
    for (name, row), column in zip(columns, axes.T, strict=True):
        image = _load(home, name)
        error = image["axial"] - truth["axial"]
        show: dict[str, Any] = {"cmap": "gray", "vmin": low, "vmax": high}
        column[0].imshow(image["axial"], **show)
        spread = (high - low) / 4
        column[1].imshow(error, cmap="RdBu_r", vmin=-spread, vmax=spread)
        column[2].imshow(image["coronal"], aspect=float(image["aspect"]), **show)
        column[0].set_title(_caption(name, row), fontsize=8, color="white")
        for ax in column:
            ax.set_axis_off()
    title = f"{rows[0]['suite']}, {rows[0]['case']}  [{low:.3g}, {high:.3g}], errors x4"
    figure.suptitle(f"{title}; research use, not for diagnosis", fontsize=8, color="white")
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.6 / figure.get_figheight(), 0.03, 0.03)
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=_DPI, metadata={"Software": None})


def _load(home: Path, name: str) -> dict[str, Any]:
    with np.load(home / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def _window(truth: dict[str, Any], row: Row) -> tuple[float, float]:
    if not truth["hu"]:
        return 0.0, float(np.quantile(truth["axial"], 0.998)) or 1.0
    return _HEAD if "head" in row["case"] else _LUNG


def _caption(name: str, row: Row | None) -> str:
    if row is None:
        return name
    value = row["psnr"]
    text = f"{name}\n{math.inf if value is None else value:.2f} dB"
    if "recovery" in row:
        text += f", contrast {row['recovery']:.2f}, invented {row['invented']:+.2f}"
    return text
