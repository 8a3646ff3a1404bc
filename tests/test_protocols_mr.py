"""The shipped MR protocols, from an image over measurements to a volume, small."""

import pytest
import torch

from medrecon.grid import Grid
from medrecon.info import check_study
from medrecon.io.ismrmrd import write_ismrmrd
from medrecon.io.read import read_study
from medrecon.protocol_files import load_protocol
from medrecon.reconstruct import run
from medrecon.simulate import simulate
from medrecon.volume import Unit, Volume

SMALL = ("sampler.steps=3", "acquisition.coils=5", "sampler.cg.max_iterations=15")
CASES = {
    "mr_cartesian_r4": ("acquisition.acceleration=2.0", "acquisition.calibration_lines=14"),
    "mr_stack_r4": (
        "acquisition.acceleration=2.5",
        "acquisition.calibration_lines=14",
        "baselines.2.iterations=15",
        "baselines.3.iterations=15",
    ),
    "mr_stack_r8": (
        "acquisition.acceleration=3.0",
        "acquisition.calibration_lines=12",
        "coil_maps.kernel=4",
        "baselines.2.iterations=15",
        "baselines.3.iterations=15",
    ),
    "mr_radial": ("acquisition.spokes=34",),
    "mr_spiral": ("acquisition.interleaves=6",),
    "mr_stack_of_stars": ("acquisition.spokes=34",),
}


def head() -> Volume:
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (4, 48, 48)), indexing="ij")
    image = 800 / (1 + torch.exp(25 * (x**2 + (1.2 * y) ** 2 - 0.6)))
    for cx, cy, value in ((0.3, 0.1, -0.6), (-0.3, 0.2, 0.4), (0.0, -0.4, -0.3)):
        spot = torch.exp(-(((x - cx) / 0.12) ** 2) - ((y - cy) / 0.15) ** 2)
        image = image * (1 + value * spot * (1 + 0.2 * z))
    return Volume(image, Grid.centred((4, 48, 48), (3.0, 4.0, 4.0)), Unit.ARBITRARY)


@pytest.mark.parametrize("name", CASES)
def test_a_shipped_protocol_simulates_writes_reads_and_reconstructs(name, tmp_path):
    protocol = load_protocol(name, [*SMALL, *CASES[name]])
    simulated = simulate(head(), protocol, seed=3)
    write_ismrmrd(tmp_path / "scan.h5", simulated)
    study = read_study(tmp_path / "scan.h5")
    assert torch.allclose(study.measurements, simulated.measurements)
    check_study(study, protocol)
    result = run(study, protocol, seed=0)
    metrics = result.report["metrics"]
    assert list(metrics) == [*(b.method for b in protocol.baselines), "dds"]
    assert all(found["nrmse"] < 0.25 for found in metrics.values())
    assert metrics["dds"]["nrmse"] < 0.08
    assert metrics["dds"]["complex_nrmse"] < 0.12
    assert result.volume.phase is not None
    assert result.report["scale"]["value"] == pytest.approx(result.report["data_range"], rel=0.15)


def test_every_shipped_mr_protocol_is_tried():
    from medrecon.protocol_files import shipped_protocols

    shipped = {name for name in shipped_protocols() if name.startswith("mr_")}
    assert shipped == {*CASES, "mr_poisson"}  # the last one takes measured data only
