"""How good are the reconstructions of measured k-space?

Reads the measured scans as any user would and runs protocols on them::

    python -m tests.benchmarks.mr_measured --json --images FOLDER

- The in-vivo brain of 16 channels, fully sampled, thinned to every second, fourth and sixth line:
  errors against its own full reconstruction, over the image and in the head alone. That reference
  is one noisy measurement: ``ceiling`` is the SSIM that an image without any noise would have.
  ``phase known``: with the phase of the full data in the coil maps, as a diagnosis.
- The in-vivo brain of 8 channels, Poisson disc: no truth. A tenth of the samples outside the
  calibration lines is held out and predicted; ``held_out`` is the mean squared error of the
  prediction over the noise, 1 for the truth itself.
- The phantoms: how much of an echo train's signal lies in its ghost, before and after correction.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from medrecon.calibration.coils import coil_combine, estimate_maps, rss
from medrecon.compare import compare_tensors
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import kspace_to_image
from medrecon.io.read import read_study
from medrecon.problem import mr_problem
from medrecon.protocol import Protocol
from medrecon.reconstruct import run
from medrecon.study import Study

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "raw" / "mri"
BRAIN, POISSON = "pulseq_brain_16ch_cartesian_128.dat", "sigpy_brain_8ch_poisson.npy"
CALIBRATION = {2.0: 24, 4.0: 16, 6.0: 16}
WEIGHTS = {
    "cg_sense": (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
    "wavelet": (1.0, 3.0, 10.0, 30.0, 100.0),
}
ITERATIONS = {"cg_sense": 40, "wavelet": 60}
TRUSTS = (1.0, 4.0, 10.0, 30.0, 100.0)

Pictures = dict[str, dict[str, Tensor]]


def quietly(path: Path) -> Study:
    """Read without the warnings of headers that say less than they should."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_study(path)


def protocol(
    baselines: list[dict[str, Any]], acquisition: dict[str, Any], trust: float | None = None
) -> Protocol:
    tree: dict[str, Any] = {
        "schema_version": 1,
        "name": "measured",
        "title": "Measured scans",
        "modality": "MR",
        "acquisition": {"kind": "cartesian", **acquisition},
        "baselines": baselines,
    }
    if trust is not None:
        tree["prior"] = {"name": "mr-axial-256"}
        tree["sampler"] = {
            "preset": "medrecon",
            "sigma_start": 0.1,
            "start": "wavelet",
            "trust": trust,
        }
    return Protocol.model_validate(tree)


def method(name: str, weight: float | None = None) -> dict[str, Any]:
    if weight is None:
        return {"method": name}
    return {"method": name, "weight": weight, "iterations": ITERATIONS[name]}


def head(reference: Tensor) -> Tensor:
    """Where there is tissue: above a fifth of the 99.5th percentile."""
    return reference > 0.2 * float(reference.flatten().quantile(0.995))


def measures(image: Tensor, reference: Tensor) -> dict[str, float]:
    """Fixed range: the 99.5th percentile of the reference."""
    top = float(reference.flatten().quantile(0.995))
    found = compare_tensors(image, reference, top)
    inside = head(reference)
    error = (image - reference)[inside].norm() / reference[inside].norm()
    return {
        "nrmse": round(found.nrmse, 4),
        "nrmse_head": round(float(error), 4),
        "ssim": round(found.ssim or math.nan, 4),
        "ssim_head": round(_ssim_inside(image, reference, top, inside), 4),
        "psnr": round(found.psnr, 2),
    }


def _ssim_inside(image: Tensor, reference: Tensor, top: float, inside: Tensor) -> float:
    """Mean of the map of similarity where there is tissue: noise in the air does not count."""
    _, local = structural_similarity_index_measure(
        image.double()[:, None], reference.double()[:, None], data_range=top, return_full_image=True
    )
    return float(local[:, 0][inside].mean())


def ceiling(reference: Tensor, noise: float) -> dict[str, float]:
    """SSIM of a noise-free image and the same with the noise of the reference.

    The noise-free one is the reference's own DDS image at full sampling, its noise complex.
    """
    generator = torch.Generator().manual_seed(0)
    noisy = reference + noise * torch.randn(
        reference.shape, dtype=torch.complex64, generator=generator
    )
    found = measures(reference, noisy.abs())
    return {"ceiling": found["ssim"], "ceiling_head": found["ssim_head"]}


Trial = tuple[dict[str, Any], Tensor]


def brain(pictures: Pictures) -> list[dict[str, Any]]:
    """Thinned to x2, x4 and x6; the weight of every method is the best of its sweep."""
    study = quietly(DATA / BRAIN)
    full = run(study, protocol([method("wavelet", 10.0)], {}, 10.0))
    noise = float(full.report["noise_std"])
    common = {"scan": "brain, 16 channels", **ceiling(full.volumes["dds"].data, noise)}
    rows: list[dict[str, Any]] = []
    for acceleration, lines in CALIBRATION.items():
        thin = {"pattern": "uniform", "acceleration": acceleration, "calibration_lines": lines}
        trials = thinned(study, thin, common | {"acceleration": acceleration})
        rows += [row for row, _ in trials.values()]
        reference = reference_of(study, thin)
        images = {name: image for name, (_, image) in trials.items()}
        pictures[f"brain x{acceleration:g}"] = {"reference": reference, **images}
    return rows


def reference_of(study: Study, thin: dict[str, Any]) -> Tensor:
    """The full reconstruction that retrospective thinning leaves behind."""
    reference = mr_problem(study, protocol([method("adjoint")], thin)).study.reference
    assert reference is not None
    return reference


def thinned(study: Study, thin: dict[str, Any], common: dict[str, Any]) -> dict[str, Trial]:
    """The best trial of every method by the error in the head."""
    reference = reference_of(study, thin)
    runs: list[tuple[str, Study, float | None, Protocol]] = [
        (name, study, None, protocol([method(name)], thin)) for name in ("zero_filled", "adjoint")
    ]
    for name, weights in WEIGHTS.items():
        runs += [(name, study, w, protocol([method(name, w)], thin)) for w in weights]
    runs += [("dds", study, t, from_wavelets(thin, t)) for t in TRUSTS]
    known = with_known_phase(study, thin)
    runs += [
        ("wavelet", known, w, protocol([method("wavelet", w)], {})) for w in WEIGHTS["wavelet"]
    ]
    runs += [("dds", known, t, from_wavelets({}, t)) for t in TRUSTS]
    best: dict[str, Trial] = {}
    for name, scan, weight, used in runs:
        result = run(scan, used)
        image, stage = result.volumes[name].data, result.report["stages"][name]
        title = f"{name}, phase known" if scan is known else name
        row = {**common, "method": title, "weight": weight, **measures(image, reference)}
        row |= {"misfit": stage.get("misfit"), "seconds": stage["seconds"]}
        if title not in best or row["nrmse_head"] < best[title][0]["nrmse_head"]:
            best[title] = row, image
    return best


def from_wavelets(acquisition: dict[str, Any], trust: float) -> Protocol:
    return protocol([method("wavelet", 30.0)], acquisition, trust)


def with_known_phase(study: Study, thin: dict[str, Any]) -> Study:
    """Thinned, its coil maps times the phase of the full data: the image to be found is real.

    No real scan has this; it tells what the phase alone costs a method.
    """
    one = mr_problem(study, protocol([method("adjoint")], thin)).study
    assert isinstance(one.geometry, Cartesian)
    lines = thin["calibration_lines"]
    maps = estimate_maps(
        one.measurements, one.geometry, calibration_lines=lines, noise_std=one.noise_std, crop=0
    )
    images = kspace_to_image(study.measurements, (-2, -1))
    phase = coil_combine(images, maps, 1).angle()
    return replace(one, maps=maps * torch.exp(1j * phase)[:, None], reference=None)


def poisson(pictures: Pictures) -> list[dict[str, Any]]:
    """A tenth of the samples outside the calibration lines held out."""
    study = quietly(DATA / POISSON)
    assert isinstance(study.geometry, Cartesian)
    mask = study.geometry.mask
    generator = np.random.default_rng(0)
    middle = np.zeros_like(mask)
    middle[tuple(slice(n // 2 - 12, n // 2 + 12) for n in mask.shape)] = True
    held = mask & ~middle & (generator.random(mask.shape) < 0.1)
    seen = torch.from_numpy(mask & ~held)
    thinned = replace(
        study,
        measurements=study.measurements * seen,
        geometry=Cartesian(mask=seen.numpy()),
    )
    rows, images = [], {}
    noise = mr_problem(study, protocol([method("adjoint")], {})).study.noise_std
    thinned = replace(thinned, noise_std=noise)
    cases = [method("adjoint")]
    cases += [method(name, weight) for name in WEIGHTS for weight in WEIGHTS[name]]
    runs = [(case["method"], case.get("weight"), protocol([case], {})) for case in cases]
    runs += [("dds", t, from_wavelets({}, t)) for t in TRUSTS]
    for name, weight, used in runs:
        problem = mr_problem(thinned, used)
        result = run(thinned, used)
        volume = result.volumes[name]
        image = volume.complex
        operator = replace(problem.data.operator, mask=torch.from_numpy(held))  # type: ignore[type-var]
        wanted = study.measurements[..., torch.from_numpy(held)]
        predicted = operator(image)[..., torch.from_numpy(held)]
        if name == "adjoint":  # dimmer by the acceleration; its best factor is no merit of it
            factor = torch.vdot(predicted.flatten(), wanted.flatten()) / predicted.norm() ** 2
            predicted = factor * predicted
        error = float((predicted - wanted).abs().square().mean()) / float(noise or 1) ** 2
        share = float((predicted - wanted).norm() / wanted.norm())
        row = {"scan": "brain, 8 channels, Poisson", "method": name, "weight": weight}
        row |= {"held_out": round(error, 3), "held_out_relative": round(share, 4)}
        rows.append(row | {"misfit": result.report["stages"][name].get("misfit")})
        better = [r["held_out"] for r in rows if r["method"] == name]
        if error <= min(better) + 1e-3:
            images[name] = volume.data
    pictures["brain, Poisson"] = images
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["method"] not in best or row["held_out"] < best[row["method"]]["held_out"]:
            best[row["method"]] = row
    return list(best.values())


def ghost_share(image: Tensor) -> float:
    """Signal half a field of view off the object, beside it, over that of the object.

    The object is what is brighter than a fifth of the maximum; its copy half the field of view
    away along y, less what overlaps with it and a margin, is the ghost's place. The air elsewhere
    is taken off.
    """
    from scipy.ndimage import binary_dilation

    slices = image.double().numpy()
    ratios = []
    for one in slices:
        thing = one > 0.2 * one.max()
        shifted = np.roll(thing, one.shape[0] // 2, axis=0)
        around = binary_dilation(thing, iterations=3)
        ghost = shifted & ~around
        air = ~binary_dilation(shifted | thing, iterations=3)
        if not ghost.any():
            continue
        level = np.median(one[air]) if air.any() else 0.0
        ratios.append((one[ghost].mean() - level) / one[thing].mean())
    return float(np.mean(ratios)) if ratios else math.nan


def phantoms(pictures: Pictures) -> list[dict[str, Any]]:
    """The echo train also as it is sorted without correction (its ramps regridded)."""
    rows = []
    images: dict[str, Tensor] = {}

    def add(name: str, study: Study) -> None:
        images[name] = rss(kspace_to_image(study.measurements, (-2, -1)), 1)
        rows.append({"scan": name, "method": "rss", "ghost": round(ghost_share(images[name]), 4)})

    add("gre.dat", quietly(DATA / "gre.dat"))
    add("epi.dat", quietly(DATA / "epi.dat"))
    with patch("medrecon.raw.epi._Estimates.of", return_value={}):
        add("epi.dat uncorrected", quietly(DATA / "epi.dat"))
    pictures["phantoms"] = images
    return rows


def draw(folder: Path, pictures: Pictures) -> None:
    """One PNG per scan: every method in the same window, and its error where there is a truth."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for title, images in pictures.items():
        reference = images.get("reference")
        rows = 2 if reference is not None else 1
        figure, axes = plt.subplots(
            rows, len(images), figsize=(3 * len(images), 3.2 * rows), squeeze=False
        )
        for column, (name, volume) in enumerate(images.items()):
            shown = volume[len(volume) // 2]
            against = shown if reference is None else reference[len(volume) // 2]
            top = float(against.flatten().quantile(0.995))
            axes[0, column].imshow(shown, cmap="gray", vmin=0, vmax=top)
            axes[0, column].set_title(name, fontsize=9)
            if reference is not None:
                error = (shown - against).abs()
                axes[1, column].imshow(error, cmap="gray", vmin=0, vmax=top / 4)
        for ax in axes.flat:
            ax.axis("off")
        figure.suptitle(title, fontsize=9)
        figure.tight_layout()
        figure.savefig(folder / f"{title.replace(' ', '_').replace(',', '')}.png", dpi=80)
        plt.close(figure)


PARTS = {"brain": brain, "poisson": poisson, "phantoms": phantoms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--images", type=Path, help="folder for pictures")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    begin = time.monotonic()
    pictures: Pictures = {}
    rows: list[dict[str, Any]] = []
    for name, part in PARTS.items():
        if arguments.part in (name, "all"):
            rows += part(pictures)
    if arguments.images:
        draw(arguments.images, pictures)
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "threads": arguments.threads,
        "load": round(os.getloadavg()[0], 2),
        "seconds": round(time.monotonic() - begin),
    }
    if arguments.json:
        print(json.dumps({"machine": machine, "rows": rows}, indent=2))
        return
    print(machine)
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
