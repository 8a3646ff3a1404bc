"""One path for both modalities: determinism, normalisation, and what does not fit together."""

import pytest
import torch

from medrecon.errors import InconsistentError, WeightsError
from medrecon.grid import Grid
from medrecon.problem import ct_problem, mr_problem
from medrecon.protocol_files import load_protocol
from medrecon.reconstruct import reconstruct, run
from medrecon.simulate import simulate
from medrecon.volume import Unit, Volume

CT = [
    "grid.shape=[3, 48, 48]",
    "grid.spacing_mm=[5, 6, 6]",
    "acquisition.columns=72",
    "acquisition.column_spacing_mm=9.0",
    "acquisition.rows=8",
    "acquisition.row_spacing_mm=7.5",
    "baselines=[{method: fdk}, {method: tv, iterations: 3, weight: 30.0}]",
    "sampler.steps=2",
    "sampler.start=tv",
    "sampler.safety=null",
]
MR = [
    "acquisition.acceleration=2.0",
    "acquisition.calibration_lines=16",
    "acquisition.coils=4",
    "sampler.steps=2",
    "sampler.safety=null",
]


def _ct_image():
    y, x = torch.meshgrid(*[torch.arange(-141.0, 142, 6)] * 2, indexing="ij")
    body = torch.where(x**2 + (1.3 * y) ** 2 < 120**2, 0.0, -1000.0)
    body[(x - 30) ** 2 + y**2 < 30**2] = -800.0
    return Volume(body.expand(3, 48, 48).clone(), Grid.centred((3, 48, 48), (5, 6, 6)), Unit.HU)


def _mr_image():
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 48)] * 2, indexing="ij")
    head = torch.where(x**2 + (1.2 * y) ** 2 < 0.7, 800.0, 0.0)
    head[(x - 0.2) ** 2 + y**2 < 0.05] = 300.0
    grid = Grid.centred((2, 48, 48), (5.0, 4.0, 4.0))
    return Volume(head.expand(2, 48, 48).clone(), grid, Unit.ARBITRARY)


@pytest.fixture(scope="module")
def ct():
    protocol = load_protocol("ct_cone_sparse", CT)
    return simulate(_ct_image(), protocol, seed=1), protocol


@pytest.fixture(scope="module")
def mr():
    protocol = load_protocol("mr_cartesian_r4", MR)
    return simulate(_mr_image(), protocol, seed=1), protocol


@pytest.mark.parametrize("case", ["ct", "mr"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(case, request):
    study, protocol = request.getfixturevalue(case)
    noisy = protocol.sampler.noise.model_copy(update={"amount": 0.5})
    sampler = protocol.sampler.model_copy(update={"noise": noisy})
    protocol = protocol.model_copy(update={"sampler": sampler})
    first, again, other = (run(study, protocol, seed=s).volume.data for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("case", ["ct", "mr"])
def test_every_stage_reports_and_the_result_comes_last(case, request):
    study, protocol = request.getfixturevalue(case)
    events = reconstruct(study, protocol, seed=0)
    stages = []
    while True:
        try:
            stages.append(next(events).stage)
        except StopIteration as end:
            result = end.value
            break
    methods = [baseline.method for baseline in protocol.baselines]
    assert list(dict.fromkeys(stages)) == ["prepare", "memory", *methods, "dds", "safety"]
    assert list(result.volumes) == [*methods, "dds"]
    assert result.volume is result.volumes["dds"]
    assert set(result.report["metrics"]) == {*methods, "dds"}
    assert [s["sigma"] for s in result.report["stages"]["dds"]["steps"]] == pytest.approx(
        [protocol.sampler.sigma_start, protocol.sampler.sigma_end]
    )


def test_the_whitened_misfit_of_the_truth_is_near_one(ct, mr):
    study, protocol = ct
    problem = ct_problem(study, protocol)
    truth = (study.reference + 1000) / 1300 - 1
    # above one by what voxels twice as coarse as the truth cannot express
    assert 0.8 < problem.data.misfit(truth) < 40
    with_model = protocol.model_copy(update={"model_std": 0.2})
    assert ct_problem(study, with_model).data.misfit(truth) < 1.5
    study, protocol = mr
    problem = mr_problem(study, protocol)
    assert problem.data.blocks == 1
    assert problem.study.noise_std == study.noise_std


def test_scaling_the_mr_signal_scales_the_result_and_nothing_else(mr):
    from dataclasses import replace

    study, protocol = mr
    # half precision turns the last bit of a scaled signal into three of its own
    prior = protocol.prior.model_copy(update={"precision": "float32"})
    protocol = protocol.model_copy(update={"prior": prior})
    loud = replace(study, measurements=1e6 * study.measurements, noise_std=1e6 * study.noise_std)
    quiet, scaled = (run(s, protocol, seed=0).volume.data for s in (study, loud))
    assert float((scaled / 1e6 - quiet).abs().max() / quiet.max()) < 1e-3


def test_a_volume_keeps_its_place_in_the_patient(ct):
    _, protocol = ct
    image = _ct_image()
    moved = Volume(image.data, image.grid.shifted((10.0, -20.0, 300.0)), image.unit)
    study = simulate(moved, protocol, seed=1)
    assert study.isocenter == pytest.approx((10.0, -20.0, 300.0))
    assert ct_problem(study, protocol).grid.center == pytest.approx((10.0, -20.0, 300.0))


def test_what_does_not_fit_is_refused_in_one_sentence(ct, mr):
    with pytest.raises(InconsistentError, match="CT study"):
        mr_problem(ct[0], mr[1])
    with pytest.raises(InconsistentError, match="MR study"):
        ct_problem(mr[0], ct[1])
    wrong = load_protocol("ct_cone_sparse", [*CT, "prior.name=mr-axial-256"])
    with pytest.raises(WeightsError, match="is for MR"):
        run(ct[0], wrong)
