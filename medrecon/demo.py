"""The demo: two real patients, measured by simulated scanners and reconstructed."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrecon.errors import UnreadableError
from medrecon.io.outputs import OutputFolder, write_json
from medrecon.io.read import read_image, read_study
from medrecon.protocol_files import load_protocol
from medrecon.reconstruct import Event, reconstruct
from medrecon.simulate import simulate, write_study
from medrecon.volume import Unit, Volume
from medrecon.write import write_result


@dataclass(frozen=True)
class Case:
    """One row of the demo: a protocol, a sample scan, and the settings that make it quick."""

    name: str
    protocol: str
    image: str
    slices: slice
    settings: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()


CASES = (
    Case(
        name="chest_ct",
        protocol="ct_cone_sparse",
        image="chest_ct.nii.gz",
        slices=slice(8, 24),
        settings=("grid.shape=[16, 256, 256]", "acquisition.rows=24"),
        quick=(
            "grid.shape=[4, 256, 256]",
            "acquisition.rows=10",
            "baselines.1.iterations=4",
            "sampler.steps=2",
        ),
    ),
    Case(
        name="brain_mr",
        protocol="mr_cartesian_r4",
        image="brain_mr.nii.gz",
        slices=slice(6, 18),
        quick=("sampler.steps=2",),
    ),
)

Summary = dict[str, dict[str, dict[str, Any]]]


def demo(
    output: Path,
    data: Path,
    *,
    quick: bool = False,
    seed: int = 0,
    device: str = "cpu",
    overwrite: bool = True,
) -> Generator[Event, None, Summary]:
    """Simulate, write, read back, reconstruct and write; yields progress, returns the figures.

    Parameters
    ----------
    output
        Folder to make: a folder for each case and ``summary.json``,
        ``{case: {method: {psnr, ssim, ssim_per_plane, nrmse, seconds}}}``.
    data
        Folder of the sample scans.
    quick
        A few slices and steps only: shows that everything works, not how well.
    seed, device
        As for :func:`medrecon.reconstruct.reconstruct`.
    overwrite
        Replace an earlier demo.

    Raises
    ------
    UnreadableError
        If the sample scans are not there (they come with the source, not with the package).
    """
    if not data.is_dir():
        raise UnreadableError(
            f"The sample scans are not in {data}; run the demo in a clone of the repository."
        )
    summary: Summary = {}
    output.parent.mkdir(parents=True, exist_ok=True)
    with OutputFolder(output, overwrite=overwrite) as folder:
        for case in CASES:
            (folder / case.name).mkdir()
            summary[case.name] = yield from _run(
                case, data, folder / case.name, quick=quick, seed=seed, device=device
            )
        write_json(folder / "summary.json", summary)
    return summary


def _run(
    case: Case, data: Path, folder: Path, *, quick: bool, seed: int, device: str
) -> Generator[Event, None, dict[str, dict[str, Any]]]:
    protocol = load_protocol(case.protocol, case.settings + (case.quick if quick else ()))
    image, identity = read_image(data / case.image)
    image = _crop(image, case.slices, quick)
    if protocol.modality == "CT":
        image = replace(image, unit=Unit.HU)
    simulated = simulate(image, protocol, seed=seed, identity=identity)
    scan = folder / "scan.h5"
    write_study(scan, simulated)
    study = replace(read_study(scan), reference=simulated.reference)
    events = reconstruct(study, protocol, seed=seed, device=device)
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            result = end.value
            break
        yield replace(event, stage=f"{case.name} {event.stage}")
    write_result(result, study, protocol, folder, seed=seed)
    stages, metrics = result.report["stages"], result.report["metrics"]
    return {name: {**metrics[name], "seconds": stages[name]["seconds"]} for name in result.volumes}


def _crop(image: Volume, slices: slice, quick: bool) -> Volume:
    start, stop, _ = slices.indices(image.grid.shape[0])
    stop = min(stop, start + 4) if quick else stop
    return Volume(image.data[start:stop].clone(), image.grid.slab(start, stop), image.unit)
