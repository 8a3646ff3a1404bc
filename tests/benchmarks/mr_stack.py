"""Does the prior with total variation along z beat the classical methods on a stack of slices?

A brain that no prior was trained on, measured by 8 coils, slice by slice, undersampled by 4 and 8
along one axis, with noise::

    python -m tests.benchmarks.mr_stack --json
    python -m tests.benchmarks.mr_stack --accelerations 4 --slices 4 --plot stack.png

Simulated on a finer grid than it is reconstructed on: coils and object on 256 x 256 pixels, of
whose k-space the middle 224 x 224 is measured, so the object has more detail than the image can
hold. The truth is the same part of the object's own k-space. Coil maps are estimated from the
calibration lines, the noise level is given.

Every classical method gets its best weight, found on other slices of the same scan. The sampler's
settings were found on another scan (``--tune`` tries them); it starts from the wavelets' image.
PSNR and SSIM are of the magnitude, ``complex`` is the error of the complex image, relative, with a
smooth phase taken off.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import crop_or_pad, image_to_kspace, kspace_to_image
from medrecon.grid import Grid
from medrecon.protocol import Protocol
from medrecon.reconstruct import RESULT, run
from medrecon.sampling_masks import cartesian_mask
from medrecon.simulate_mr import ObjectPhase, coil_sensitivities
from medrecon.study import Identity, Study

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "train" / "mr_val_256.h5"
TUNING = ("study1_FLAIR", 14, 4)  # series, first slice, number: where the sampler was tuned
TEST = {"T1": ("study2_T1W", 13, 38), "FLAIR": ("study2_FLAIR", 10, 36)}
"""Series, its first slice here, and the first of four on which weights are chosen."""
SPACING = (3.3, 0.94, 0.94)  # mm; the file says no spacing of slices, the series have about this
COILS, NOISE = 8, 0.01  # deviation per complex sample, relative to the 99th percentile
MATRIX = 224
CALIBRATION = {4.0: 24, 8.0: 16}

WEIGHTS: dict[str, tuple[float, ...]] = {
    "cg_sense": (30.0, 100.0, 300.0),
    "wavelet": (10.0, 30.0, 100.0),
    "tv": (10.0, 30.0, 100.0, 300.0),
}
ITERATIONS = {"cg_sense": 40, "wavelet": 60, "tv": 60}
SAMPLER: dict[str, Any] = {"preset": "medrecon"}
TV_Z = 30.0
GRID = {
    "trust": (4.0, 16.0),
    "sigma_start": (0.1, 0.5),
    "sigma_end": (0.01,),
    "tv_z": (0.0, 100.0),
}


def slices(series: str, first: int, count: int) -> Tensor:
    """Consecutive slices, the volume's 99.5th percentile being 1."""
    with h5py.File(DATA) as file:
        names = file["subject"].asstr()[:]
        at = np.flatnonzero([name.endswith(series) for name in names])[first : first + count]
        return torch.from_numpy(file["magnitude"][at].astype(np.float32) / 1000).clamp_min(0)


def scan(magnitude: Tensor, acceleration: float, seed: int = 0) -> Study:
    """Measure slices; see the module."""
    generator = torch.Generator().manual_seed(seed)
    fine = Grid.centred((len(magnitude), *magnitude.shape[1:]), SPACING)
    phase = ObjectPhase.drawn(generator).on(fine)
    image = (magnitude * torch.exp(1j * phase)).to(torch.complex64)
    share = MATRIX / magnitude.shape[-1]

    def measured(x: Tensor) -> Tensor:
        kspace = image_to_kspace(x, (-2, -1))
        for axis in (-2, -1):
            kspace = crop_or_pad(kspace, MATRIX, axis)
        return kspace * share

    truth = kspace_to_image(measured(image), (-2, -1))
    mask = cartesian_mask(
        (MATRIX, MATRIX),
        pattern="uniform",
        acceleration=acceleration,
        calibration_lines=CALIBRATION[acceleration],
        generator=generator,
    )
    clean = measured(coil_sensitivities(fine, COILS) * image).transpose(0, 1)
    deviation = NOISE * float(np.quantile(magnitude.numpy(), 0.99))
    noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator)
    spacing = (SPACING[0], SPACING[1] / share, SPACING[2] / share)
    return Study(
        measurements=(clean + deviation * noise) * torch.from_numpy(mask),
        geometry=Cartesian(mask=mask),
        grid=Grid.centred((len(magnitude), MATRIX, MATRIX), spacing),
        noise_std=deviation,
        identity=Identity(simulated=True),
        reference=truth.abs(),
        reference_phase=truth.angle(),
    )


def protocol(
    acceleration: float, baselines: dict[str, float], sampler: dict[str, Any] | None = None
) -> Protocol:
    """Baselines with their weights, then the sampler from the wavelets' image, if any."""
    made = [{"method": "zero_filled"}] if sampler is not None else []
    tree: dict[str, Any] = {
        "schema_version": 1,
        "name": "mr_stack",
        "title": "Stack of slices",
        "modality": "MR",
        "acquisition": {"kind": "cartesian", "calibration_lines": CALIBRATION[acceleration]},
        "baselines": [
            *made,
            *(
                {"method": name, "weight": weight, "iterations": ITERATIONS[name]}
                for name, weight in baselines.items()
            ),
        ],
    }
    if sampler is not None:
        settings = dict(sampler)
        tv_z = settings.pop("tv_z", TV_Z)
        tree["prior"] = {"name": "mr-axial-256"}
        tree["sampler"] = {"start": "wavelet", **SAMPLER, **settings}
        if tv_z:
            tree["sampler"]["tv_z"] = {"weight": tv_z}
    return Protocol.model_validate(tree)


def reconstructed(
    study: Study, used: Protocol, case: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Rows of one run, and the magnitudes."""
    result = run(study, used)
    weights = {b.method: b.weight for b in used.baselines}
    rows = []
    for name, found in result.report["metrics"].items():
        stage = result.report["stages"][name]
        row = {**case, "method": name, "weight": weights.get(name), "seconds": stage["seconds"]}
        row |= {key: round(found[key], digits) for key, digits in (("psnr", 2), ("ssim", 4))}
        row["nrmse"] = round(found["nrmse"], 4)
        if "complex_nrmse" in found and name != "zero_filled":
            row["complex"] = round(found["complex_nrmse"], 4)
        row["misfit"] = stage.get("misfit")
        rows.append(row)
    return rows, {name: volume.data for name, volume in result.volumes.items()}


def tuned(study: Study, case: dict[str, Any]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Weights of the best PSNR, and every trial."""
    trials: list[dict[str, Any]] = []
    best = {}
    for name, weights in WEIGHTS.items():
        used = [protocol(case["acceleration"], {name: weight}) for weight in weights]
        new = [row for one in used for row in reconstructed(study, one, case)[0]]
        best[name] = max(new, key=lambda row: float(row["psnr"]))["weight"]
        trials += new
    return best, trials


def trials_of_the_sampler(acceleration: float) -> Iterator[dict[str, Any]]:
    """One setting after the other away from the usual ones, on the tuning slices."""
    study = scan(slices(*TUNING), acceleration, seed=1)
    usual: dict[str, Any] = {**SAMPLER, "tv_z": TV_Z}
    changes: list[dict[str, Any]] = [{}]
    changes += [{k: v} for k, values in GRID.items() for v in values if usual[k] != v]
    for change in changes:
        settings = {**usual, **change}
        case = {"scan": TUNING[0], "acceleration": acceleration, **settings}
        used = protocol(acceleration, {"wavelet": 30.0}, settings)
        yield reconstructed(study, used, case)[0][-1]


def plot(path: Path, pictures: dict[str, dict[str, Tensor]]) -> None:
    """Middle slice of every method, its error below, and the cut along z."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = len(next(iter(pictures.values())))
    figure, axes = plt.subplots(
        3 * len(pictures),
        columns,
        figsize=(2.2 * columns, 5.4 * len(pictures)),
        height_ratios=[1, 1, 0.45] * len(pictures),
        squeeze=False,
    )
    for row, (title, volumes) in enumerate(pictures.items()):
        truth = volumes["truth"]
        top = float(torch.quantile(truth[len(truth) // 2], 0.999))
        for column, (name, volume) in enumerate(volumes.items()):
            middle, above = len(volume) // 2, axes[3 * row : 3 * row + 3, column]
            error = (volume - truth)[middle].abs()
            above[0].imshow(volume[middle], cmap="gray", vmin=0, vmax=top)
            above[1].imshow(error, cmap="gray", vmin=0, vmax=top / 4)
            cut = volume[:, MATRIX // 2]
            above[2].imshow(cut, cmap="gray", vmin=0, vmax=top, aspect=3.0)
            above[0].set_title(f"{title}\n{name}" if column == 0 else name, fontsize=8)
    for ax in axes.flat:
        ax.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    said = []
    keys = sorted({(row["scan"], row["acceleration"]) for row in rows})
    for (name, acceleration), other in itertools.product(keys, ("wavelet", "cg_sense", "tv")):
        psnr = {
            row["method"]: row["psnr"]
            for row in rows
            if (row["scan"], row["acceleration"]) == (name, acceleration)
        }
        gain = psnr[RESULT] - psnr[other]
        bar = "" if other == "tv" else (" (bar 1, kept)" if gain >= 1 else " (bar 1, MISSED)")
        said.append(f"{name} x{acceleration:g}: DDS {gain:+.2f} dB beside {other}{bar}")
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--accelerations", type=float, nargs="*", default=[4.0, 8.0])
    parser.add_argument("--volumes", nargs="*", choices=TEST, default=["T1"])
    parser.add_argument("--slices", type=int, default=24, choices=range(1, 25))
    parser.add_argument("--tune", action="store_true", help="try the sampler's settings, and stop")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    begin = time.monotonic()
    rows: list[dict[str, Any]] = []
    tuning: list[dict[str, Any]] = []
    pictures: dict[str, dict[str, Tensor]] = {}
    for acceleration, volume in itertools.product(arguments.accelerations, arguments.volumes):
        if arguments.tune:
            for row in trials_of_the_sampler(acceleration):
                print(json.dumps(row), flush=True)
            continue
        series, first, tuning_slices = TEST[volume]
        case = {"scan": f"{volume}, weights", "acceleration": acceleration}
        weights, trials = tuned(scan(slices(series, tuning_slices, 4), acceleration, 1), case)
        tuning += trials
        study = scan(slices(series, first, arguments.slices), acceleration)
        new, images = reconstructed(
            study, protocol(acceleration, weights, {}), {**case, "scan": volume}
        )
        rows += new
        assert study.reference is not None
        pictures[f"{volume} x{acceleration:g}"] = {"truth": study.reference, **images}
    if arguments.tune:
        return
    if arguments.plot and pictures:
        plot(arguments.plot, pictures)
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "threads": arguments.threads,
        "load": round(os.getloadavg()[0], 2),
        "seconds": round(time.monotonic() - begin),
    }
    report = {"machine": machine, "tuning": tuning, "rows": rows, "verdicts": verdicts(rows)}
    if arguments.json:
        print(json.dumps(report, indent=2))
        return
    for row in [*tuning, *rows]:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    print(*report["verdicts"], sep="\n")


if __name__ == "__main__":
    main()
