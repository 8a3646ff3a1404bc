"""How well do FBP, TV and DDS find the holes of the Helsinki Tomography Challenge's discs?

Reconstructs the measured limited-angle files, segments solid from air by Otsu's threshold and
scores by Matthews' correlation coefficient (MCC), the challenge's own score.  The prior of DDS has
seen bodies, no acrylic::

    python tests/benchmarks/htc2022.py --images FOLDER --json

The challenge's truths are not published with these files.  What can be said without them: a disc of
known holes, measured by the very same geometry and noise, scored against its truth; two arcs of the
same disc scored against each other; and, for files of binary images that are said to be truths
(``true*.mat`` beside the data), whether any of them, mirrored or turned, is one of the discs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray
from scipy.ndimage import rotate

from medrecon.baselines import total_variation
from medrecon.geometry import FanBeam
from medrecon.io.htc import read_htc
from medrecon.problem import ct_problem
from medrecon.protocol_files import load_protocol
from medrecon.reconstruct import run
from medrecon.study import Study

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "raw" / "ct"
PROTOCOL = "ct_fan_limited_angle"
MU = 0.03  # of the acrylic, 1/mm
DISC = (0.6, -0.9, 34.71)  # x, y, radius, mm, like the measured ones
HOLES = [(-14.0, 9.0, 7.0), (12.0, 14.0, 4.0), (16.0, -11.0, 8.5), (-6.0, -17.0, 3.0), (0, -2, 2)]

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]


def matthews(a: Mask, b: Mask) -> float:
    """Matthews' correlation coefficient of two segmentations: 1 equal, 0 unrelated, -1 opposite.

    B. W. Matthews, Biochim. Biophys. Acta 405 (1975) 442, doi:10.1016/0005-2795(75)90109-9.

    >>> truth = np.array([True, True, False, False])
    >>> matthews(truth, truth), matthews(truth, ~truth)
    (1.0, -1.0)
    >>> matthews(truth, np.array([True, False, True, False])), matthews(truth, truth | True)
    (0.0, 0.0)
    """
    tp, tn = float((a & b).sum()), float((~a & ~b).sum())
    fp, fn = float((~a & b).sum()), float((a & ~b).sum())
    scale = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return float((tp * tn - fp * fn) / scale) if scale > 0 else 0.0


def otsu(image: Image, bins: int = 256) -> float:
    """Threshold that parts an image into two classes of the largest variance between them.

    N. Otsu, IEEE Trans. Syst. Man Cybern. 9 (1979) 62, doi:10.1109/TSMC.1979.4310076.

    >>> 1.0 < otsu(np.concatenate([np.full(90, 1.0), np.full(10, 2.0)])) < 2.0
    True
    """
    counts, edges = np.histogram(image, bins)
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts).astype(float)
    total, mass = below[-1], np.cumsum(counts * middles)
    above = total - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    return float(edges[1 + int(np.nanargmax(between))])


def best_over_poses(found: Mask, truth: Mask) -> tuple[float, str]:
    """Return the largest MCC over a mirror image and turns by 2 degrees, and which it was."""
    trials = (
        (matthews(found, rotate(side.astype(float), angle, reshape=False, order=1) > 0.5), name)
        for flip, side in (("", truth), ("mirrored ", truth[:, ::-1]))
        for angle in range(0, 360, 2)
        for name in [f"{flip}{angle} deg"]
    )
    return max(trials)


def synthetic(geometry: FanBeam, noise: float, seed: int = 0) -> Study:
    """Measure a disc with holes exactly, at the centres of the cells, and add white noise."""
    starts, along = geometry.frames().rays(np.zeros(geometry.columns), np.arange(geometry.columns))

    def chord(x: float, y: float, radius: float) -> Image:
        to = np.array([x, y, 0.0]) - starts
        d2 = (to**2).sum(-1) - ((to * along).sum(-1)) ** 2
        return np.asarray(2 * np.sqrt(np.clip(radius**2 - d2, 0, None)))

    lines = MU * (chord(*DISC) - sum(chord(*hole) for hole in HOLES))
    lines += noise * np.random.default_rng(seed).standard_normal(lines.shape)
    return Study(
        measurements=torch.from_numpy(lines.astype(np.float32))[None], geometry=geometry, grid=None
    )


def truth_of(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Mask:
    """The synthetic disc on the grid: solid where a voxel's centre is."""
    y = (np.arange(shape[1]) - (shape[1] - 1) / 2)[:, None] * spacing[1]
    x = (np.arange(shape[2]) - (shape[2] - 1) / 2)[None] * spacing[2]
    inside = [(x - cx) ** 2 + (y - cy) ** 2 <= r**2 for cx, cy, r in (DISC, *HOLES)]
    return np.asarray(inside[0] & ~np.logical_or.reduce(inside[1:]))


def noise_of(study: Study) -> float:
    """Deviation of the white noise: of second differences along the columns."""
    second = np.diff(study.measurements[0].numpy(), 2, axis=-1)
    return float(np.median(np.abs(second)) / 0.6745 / np.sqrt(6))


def reconstructions(
    study: Study, weights: list[float], iterations: int
) -> Iterator[tuple[str, Image, float]]:
    """Name, attenuation in 1/mm ``(y, x)`` and CPU seconds of each method."""
    assert isinstance(study.geometry, FanBeam)
    views = study.geometry.views
    protocol = load_protocol(PROTOCOL, [f"acquisition.views={views}"])
    problem = ct_problem(study, protocol)

    def attenuation(u: torch.Tensor) -> Image:
        return (problem.to_volume(u).data[0].numpy() / 1000 + 1) * protocol.mu_water_per_mm

    begin = time.process_time()
    start = problem.direct["fbp"]()
    yield "fbp", attenuation(start), time.process_time() - begin
    for weight in weights:
        begin = time.process_time()
        *_, last = total_variation(
            problem.data, problem.grid.spacing, weight=weight, iterations=iterations, start=start
        )
        yield f"tv {weight:g}", attenuation(last.value), time.process_time() - begin
    begin = time.process_time()
    volume = run(study, protocol).volume.data[0].numpy()
    yield "dds", (volume / 1000 + 1) * protocol.mu_water_per_mm, time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=float, nargs="+", default=[5.0])
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--only", default="", help="part of the names of the cases to run")
    parser.add_argument("--images", type=Path, help="folder for PNGs, made if it is not there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    protocol = load_protocol(PROTOCOL)
    assert protocol.grid is not None
    truth = truth_of(protocol.grid.shape, protocol.grid.spacing_mm)
    rows: list[dict[str, Any]] = []
    solid: dict[tuple[str, str], Mask] = {}

    def say(**row: Any) -> None:
        rows.append(row)
        if not options.json:
            print(row, flush=True)

    for case, study in _cases(options.only):
        for method, image, seconds in reconstructions(study, options.weights, options.iterations):
            mask = solid[case, method] = image > otsu(image)
            known = {"mcc": round(matthews(mask, truth), 4)} if case.startswith("syn") else {}
            say(case=case, method=method, noise=round(noise_of(study), 4), **known)
            rows[-1]["cpu_s"] = round(seconds, 1)
            if options.images:
                draw(f"{case} {method}", image, mask, truth, options.images)
        if not case.startswith("syn"):
            for label, score, pose in _claims(solid[case, method]):
                say(case=case, method=method, is_it=label, best_mcc=round(score, 4), pose=pose)
    for (case, method), mask in list(solid.items()):
        other = solid.get((case.replace("60", "90"), method))
        if "60" in case and other is not None:
            agreement = round(matthews(mask, other), 4)
            say(case=f"{case} against 90", method=method, mcc=agreement)
    if options.json:
        print(json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=2))


def _cases(only: str) -> Iterator[tuple[str, Study]]:
    """Each file, and a synthetic disc seen by its geometry with its noise."""
    for file in sorted(DATA.glob("htc2022_*.mat")):
        name, measured = file.stem.removeprefix("htc2022_"), read_htc(file)
        assert isinstance(measured.geometry, FanBeam)
        if only in name:
            yield name, measured
        if only in f"synthetic {name}":
            yield f"synthetic {name}", synthetic(measured.geometry, noise_of(measured))


def _claims(mask: Mask) -> Iterator[tuple[str, float, str]]:
    """Best agreement of the solid, and of the holes, with images that are said to be truths."""
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    inside = (y - y.mean()) ** 2 + (x - x.mean()) ** 2 < (110 / 256 * mask.shape[0]) ** 2
    for path in sorted(DATA.glob("true*.mat")):
        image = scipy.io.loadmat(path)["truth"] > 0
        for part, found in (("solid", mask), ("holes", ~mask & inside)):
            score, pose = best_over_poses(found, image)
            yield f"{path.stem} {part}", score, pose


def draw(title: str, image: Image, mask: Mask, truth: Mask, folder: Path) -> None:
    """Reconstruction and segmentation side by side, and the truth where it is known."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    panels = [(image, "1/mm"), (mask, "solid")]
    if title.startswith("synthetic"):
        panels.append((truth, "truth"))
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 4.2))
    for axis, (panel, name) in zip(axes, panels, strict=True):
        axis.imshow(panel, cmap="gray", vmin=0, vmax=1.2 * MU if name == "1/mm" else 1)
        axis.set_title(f"{title}: {name}", fontsize=9)
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(folder / f"{title.replace(' ', '_')}.png", dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    main()
