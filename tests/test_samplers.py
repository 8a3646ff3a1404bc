"""From settings to a sampler: presets, levels, laws and noise are those that were asked for."""

from functools import cache
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from medrecon.errors import ProtocolError, WeightsError
from medrecon.priors.weights import load_prior
from medrecon.protocol import Sampler
from medrecon.protocol.presets import PRESETS
from medrecon.protocol_files import load_protocol
from medrecon.reconstruct import run
from medrecon.samplers import levels
from medrecon.sampling.data_step import largest_curvature
from medrecon.sampling.denoise import Keep, PredictorCorrector, Tweedie
from medrecon.sampling.multistep import DEIS, DPMSolver, Momentum
from medrecon.sampling.renoise import DDIM, DDS, DiffPIR, Fresh
from medrecon.simulate import simulate
from tests.sampling.problems import assembled, prior, problem, repeated, settings, white
from tests.test_reconstruct import CT, MR, _ct_image, _mr_image


def made(sampler, *, largest=1000.0, neighbours=False, size=(4, 3)):
    A, y, weights = repeated(6, size=size)
    trained = prior(white(A, 0.0, 0.5), neighbours=neighbours, largest=largest)
    start = torch.zeros(A.domain.shape, dtype=torch.float64)
    return assembled(A, y, weights, trained, sampler, start=start)


@pytest.mark.parametrize(
    ("given", "law"),
    [
        ({}, Fresh()),
        ({"noise": {"law": "ddim", "eta": 0.3}}, DDIM(0.3)),
        ({"noise": {"law": "dds", "eta": 0.3}, "schedule": "ddim"}, DDS(0.3)),
        ({"noise": {"law": "diffpir", "eta": 0.3}, "schedule": "geometric"}, DiffPIR(0.3)),
        ({"schedule": "ddim"}, Fresh()),
        ({"schedule": "dpm-solver++"}, DPMSolver()),
        ({"schedule": "deis"}, DEIS(3)),
        ({"schedule": "momentum", "momentum": 0.5}, Momentum(0.5)),
        ({"denoise": "predictor_corrector"}, Keep()),
    ],
)
def test_law_and_schedule_are_those_asked_for(given, law):
    method = made(settings(**given)).method
    assert method.renoise == law
    kind = PredictorCorrector if "denoise" in given else Tweedie
    assert isinstance(method.denoise, kind)


@pytest.mark.parametrize("schedule", ["karras", "geometric", "ddim", "dpm-solver++"])
def test_no_level_is_above_what_the_prior_was_trained_for(schedule):
    sampler = settings(sigma_start=100.0, sigma_end=0.02, steps=9, schedule=schedule)
    sigmas = levels(sampler, prior(None, largest=12.0).card)
    assert sigmas[0] == pytest.approx(12.0)
    assert sigmas[-1] == pytest.approx(0.02)
    assert len(sigmas) == 9
    assert all(a > b for a, b in pairwise(sigmas))


def test_noise_is_correlated_as_said_or_as_suits_the_prior():
    null = settings(noise={"correlation_mm": None})
    assert made(null).draw.func.length == 5.0
    assert made(null, neighbours=True).draw.func.length == 0.0
    assert made(settings(noise={"correlation_mm": 3.0}), neighbours=True).draw.func.length == 3.0
    assert made(settings()).draw.func.length == 0.0


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_noise_that_a_preset_injects_is_standard_normal(preset):
    # a prior that returns its input makes the first two levels' noise visible
    class Transparent:
        seen = ()

        def error_variance(self, sigma):
            return 1e-12  # holds the data step

        def __call__(self, x, sigma):
            self.seen = (*self.seen, x)
            return torch.zeros_like(x)

    A, y, weights = repeated(6, size=(64, 64))
    sampler = settings(
        preset=preset, steps=3, tv_z=None, anchor="error", denoise="tweedie",
        noise={"law": "fresh", "amount": 1.0},
    )  # fmt: skip
    transparent = Transparent()
    start = torch.zeros(A.domain.shape, dtype=torch.float64)
    sampling = assembled(A, 0 * y, weights, prior(transparent), sampler, start=start)
    list(sampling.steps())
    for x, sigma in zip(transparent.seen, sampling.sigmas, strict=True):
        assert abs(float(x.mean() / sigma)) < 0.03
        assert abs(float(x.std() / sigma) - 1) < 0.02
        kurtosis = float((x / sigma).pow(4).mean())
        assert abs(kurtosis - 3) < 0.25


def test_tv_in_units_of_curvature_is_tv_in_nats_with_the_curvature_and_the_slice_distance():
    A, y, weights = repeated(6)
    consistency = made(
        settings(tv_z={"weight": 2e-4, "penalty": 125.0, "unit": "curvature"})
    ).method.data_step.consistency
    largest = largest_curvature(problem(A, y, weights).data)
    assert consistency.regularizer.weight == pytest.approx(2e-4 * largest * 2.5)
    assert consistency.penalty == pytest.approx(125.0 * 2.5)
    # on neighbouring slices the weight acts per slice: |d/dz| times dz
    step = torch.zeros((6, 4, 3)).double()
    step[3:] = 1.0
    assert consistency.regularizer.value(step) == pytest.approx(12 * 2e-4 * largest)


def test_published_numbers_of_tv_z_are_those_of_the_released_code():
    # 1/2 |Ax - y|^2 + lambda |Dx|_1 with |A^T A| = 402, x = (u + 1) / 2, ADMM's rho on |Dx|^2
    tv = settings(preset="dds").tv_z
    assert tv.weight == pytest.approx((0.04 / 2) / (402 / 4), rel=0.01)
    assert tv.penalty == pytest.approx((10 / 4) / (0.04 / 2))


# --- presets in protocols -------------------------------------------------------------------------


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("protocol", ["ct_cone_sparse", "mr_cartesian_r4"])
def test_every_preset_is_valid_in_a_protocol_of_either_modality(protocol, preset):
    sampler = load_protocol(protocol, [f"sampler={{preset: {preset}}}"]).sampler
    modality = "CT" if protocol.startswith("ct") else "MR"
    for key, value in PRESETS[preset][modality].items():
        found = getattr(sampler, key)
        if isinstance(value, dict):
            assert {name: getattr(found, name) for name in value} == value
        else:
            assert found == value


def test_what_is_given_overrides_the_preset_key_by_key():
    sampler = load_protocol(
        "mr_cartesian_r4",
        ["sampler={preset: dds, steps: 9, cg: {max_iterations: 7}, noise: {eta: 0.1}}"],
    ).sampler
    assert (sampler.steps, sampler.cg.max_iterations, sampler.noise.eta) == (9, 7, 0.1)
    assert (sampler.cg.preconditioner, sampler.noise.law) == ("none", "ddim")
    assert sampler.gamma == 0.95


def test_null_takes_a_presets_block_away():
    assert (
        load_protocol("ct_cone_sparse", ["sampler={preset: dds, tv_z: null}"]).sampler.tv_z is None
    )


def test_a_weight_of_tv_z_keeps_the_unit_it_was_given_in():
    own = load_protocol("ct_cone_sparse", ["sampler.tv_z={weight: 3.0}"]).sampler.tv_z
    assert (own.weight, own.unit) == (3.0, "nats")
    changes = ["sampler.tv_z={weight: 3.0}", "sampler.preset=dds"]
    assert load_protocol("ct_cone_sparse", changes).sampler.tv_z == own
    halved = settings(preset="dds", tv_z={"penalty": 60.0}).tv_z
    assert (halved.penalty, halved.weight, halved.unit) == (60.0, 2e-4, "curvature")


def test_a_shipped_protocols_own_settings_stay_when_a_preset_is_named():
    named = load_protocol("mr_radial", ["sampler.preset=dds"]).sampler
    assert (named.preset, named.start, named.noise.law) == ("dds", "noise", "ddim")
    assert (named.steps, named.cg.preconditioner) == (20, "circulant")


def test_settings_survive_being_written_and_read_again():
    sampler = settings("MR", preset="dds", steps=9)
    assert Sampler.model_validate_json(sampler.model_dump_json()) == sampler


def test_without_a_preset_a_start_has_to_be_said():
    with pytest.raises(ValidationError, match="start"):
        Sampler.model_validate({"steps": 3})


def test_an_unknown_preset_is_refused_with_the_names_there_are():
    with pytest.raises(ProtocolError, match=r"sampler\.preset: .*'medrecon', 'dds'"):
        load_protocol("ct_cone_sparse", ["sampler={preset: ddim, start: fdk}"])


def test_a_preset_that_starts_from_tv_asks_for_it():
    with pytest.raises(ProtocolError, match=r"sampler\.start: tv is not among the baselines"):
        load_protocol("ct_cone_sparse", ["sampler={preset: medrecon}", "baselines=[{method: fdk}]"])


# --- levels stored with a prior -------------------------------------------------------------------

STORED = {"fan": {3: (0.4, 0.1, 0.02), 2: (0.4, 0.02)}, "cone": {2: (0.3, 0.03)}}


def stored(steps, task=None, schedules=STORED):
    sampler = settings(schedule="stored", steps=steps, schedule_task=task)
    return levels(sampler, prior(None, name="chest", schedules=schedules).card)


def test_stored_levels_are_those_of_the_card():
    assert stored(3) == (0.4, 0.1, 0.02)
    assert stored(2, "cone") == (0.3, 0.03)


def test_a_schedule_that_is_not_stored_or_not_unique_is_refused():
    with pytest.raises(WeightsError, match=r"no stored schedule of 5 steps \(stored: fan: 3, 2 st"):
        stored(5)
    with pytest.raises(WeightsError, match="for fan, cone; say which one"):
        stored(2)
    with pytest.raises(WeightsError, match=r"of 3 steps for cone .*medrecon priors schedule"):
        stored(3, "cone")
    with pytest.raises(WeightsError, match=r"stored: none"):
        stored(3, None, {})


# --- a whole run ----------------------------------------------------------------------------------


@cache
def _scanned(case):
    """Name, changes and study of a small scan."""
    name, changes, image = (
        ("ct_cone_sparse", CT, _ct_image())
        if case == "ct"
        else ("mr_cartesian_r4", MR, _mr_image())
    )
    changes = [change for change in changes if not change.startswith("sampler.")]
    return name, changes, simulate(image, load_protocol(name, changes), seed=1)


@pytest.mark.parametrize(
    ("case", "preset"),
    [("ct", "medrecon"), ("ct", "diffusion-mbir"), ("mr", "dds"), ("mr", "dds-released")],
)
def test_a_run_with_any_preset_reports_the_calls_it_made(case, preset):
    name, changes, study = _scanned(case)
    protocol = load_protocol(name, [*changes, f"sampler={{preset: {preset}, steps: 2}}"])
    result = run(study, protocol, seed=0)
    stage = result.report["stages"]["dds"]
    assert stage["calls"] == (3 if preset == "diffusion-mbir" else 2)
    largest = load_prior(protocol.prior.name).card.sigma_range[1]
    assert stage["steps"][0]["sigma"] == pytest.approx(min(protocol.sampler.sigma_start, largest))
    assert bool(torch.isfinite(result.volume.data).all())
