"""From an MR study and a protocol to images: coils, scale, trajectories, series."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrecon.errors import InconsistentError, ProtocolError
from medrecon.geometry import Cartesian
from medrecon.grid import Grid
from medrecon.io.nifti import write_nifti
from medrecon.problem import mr_problem, mr_problems
from medrecon.protocol import METHODS, Baseline
from medrecon.protocol_files import load_protocol
from medrecon.reconstruct import reconstruct_all, run
from medrecon.simulate import simulate
from medrecon.simulate_mr import coil_sensitivities
from medrecon.volume import Unit, Volume

SHAPE = (4, 40, 36)
GRID = Grid.centred(SHAPE, (5.0, 4.0, 4.0))
CLASSICAL = ["prior=null", "sampler=null", "acquisition.coils=6", "acquisition.noise_std=0.005"]
BASELINES = (
    "baselines=[{method: adjoint}, {method: zero_filled}, "
    "{method: cg_sense, iterations: 40, weight: 200.0}]"
)
CARTESIAN = [
    *CLASSICAL,
    BASELINES,
    "acquisition.pattern=uniform",
    "acquisition.acceleration=2.0",
    "acquisition.calibration_lines=14",
]
FULL = [*CLASSICAL, "acquisition.pattern=as_measured", "acquisition.acceleration=1.0"]
RADIAL = """\
schema_version: 1
name: spokes
title: Spokes
modality: MR
acquisition:
  kind: non_cartesian
  pattern: radial
  spokes: 60
  coils: 6
  noise_std: 0.005
baselines:
  - method: gridding
  - method: cg_sense
    iterations: 15
"""


def head(brightness: float = 800.0, shape: tuple[int, int, int] = SHAPE) -> Volume:
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = x**2 + (1.2 * y) ** 2 + (z**2 if shape[0] > 8 else 0)  # thick slabs hold it whole
    image = brightness / (1 + torch.exp(18 * (inside - 0.6)))
    image = image * (1 - 0.5 * torch.exp(-(((x - 0.2) / 0.25) ** 2) - (y / 0.2) ** 2))
    grid = Grid.centred(shape, GRID.spacing)
    return Volume((image * (1 + 0.1 * z)).float(), grid, Unit.ARBITRARY)


def cartesian(*more, name="mr_cartesian_r4"):
    return load_protocol(name, [*CARTESIAN, *more])


def error_of(result, method):
    return result.report["metrics"][method]["nrmse"]


@pytest.fixture(scope="module")
def scan():
    return simulate(head(), cartesian(), seed=2)


@pytest.fixture(scope="module")
def full():
    return simulate(head(), load_protocol("mr_cartesian_r4", FULL), seed=2)


@pytest.fixture
def along(tmp_path):
    def protocol(text=RADIAL, *more):
        (tmp_path / "p.yaml").write_text(text)
        return load_protocol(tmp_path / "p.yaml", more)

    return protocol


# --- methods ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [m for m in METHODS["cartesian"] if m != "llr"])
def test_one_word_changes_the_method(scan, method):
    result = run(scan, cartesian("baselines=[{method: cg_sense, iterations: 12}]",
                                 f"baselines.0.method={method}"))  # fmt: skip
    assert list(result.volumes) == [method]
    bound = 0.35 if method in ("zero_filled", "rss", "adaptive", "adjoint") else 0.12
    assert error_of(result, method) < bound


@pytest.mark.parametrize(
    "method", [m for m in METHODS["non_cartesian"] if m not in ("llr", "adjoint")]
)
def test_one_word_changes_the_method_along_a_trajectory(along, method):
    protocol = along(RADIAL, "baselines=[{method: cg_sense, iterations: 15}]",
                     f"baselines.0.method={method}")  # fmt: skip
    result = run(simulate(head(), protocol, seed=2), protocol)
    assert error_of(result, method) < 0.12


@pytest.mark.parametrize(
    ("settings", "encoding"),
    [
        (("pattern=spiral", "spokes=null", "interleaves=12"), "slices"),
        (("pattern=stack_of_stars", "golden=true"), "stack"),
        (("pattern=koosh", "spokes=700"), "volume"),
    ],
    ids=["spiral", "stack of stars", "koosh"],
)
def test_other_trajectories_are_simulated_and_reconstructed(along, settings, encoding):
    protocol = along(RADIAL, *(f"acquisition.{s}" for s in settings))
    shape = (20, 24, 22) if encoding == "volume" else SHAPE
    study = simulate(head(shape=shape), protocol, seed=2)
    assert study.geometry.is_stack == (encoding == "stack")
    assert study.geometry.is_3d == (encoding != "slices")
    result = run(study, protocol)
    assert error_of(result, "gridding") < 0.2
    assert error_of(result, "cg_sense") < 0.1
    assert result.report["metrics"]["cg_sense"]["complex_nrmse"] < 0.1


def test_a_simulation_along_a_trajectory_is_not_the_operator_that_reconstructs(along):
    """Data come from finer voxels: the operator explains them, but not to its own precision."""
    protocol = along(RADIAL, "acquisition.noise_std=0.0")
    study = simulate(head(), protocol, seed=2)
    problem = mr_problem(study, protocol)
    true_maps = coil_sensitivities(GRID, 6).transpose(0, 1).contiguous()
    exact = replace(study, maps=true_maps)
    operator = mr_problem(exact, protocol).data.operator
    truth = torch.polar(study.reference, study.reference_phase)
    off = (operator(truth) - study.measurements).norm() / study.measurements.norm()
    assert 1e-5 < float(off) < 1e-2
    assert problem.data.operator.codomain == operator.codomain


def test_fewer_spokes_may_be_asked_of_a_measured_scan(along):
    maps = coil_sensitivities(GRID, 6).transpose(0, 1).contiguous()
    study = replace(simulate(head(), along(), seed=2), maps=maps)
    thinned = mr_problem(study, along(RADIAL, "acquisition.spokes=20")).study
    assert thinned.geometry.shots == 20
    np.testing.assert_array_equal(thinned.geometry.trajectory, study.geometry.trajectory[::3])
    assert torch.equal(thinned.measurements, study.measurements[..., ::3, :])
    golden = along(RADIAL, "acquisition.spokes=20", "acquisition.golden=true")
    first = mr_problem(study, golden).study
    np.testing.assert_array_equal(first.geometry.trajectory, study.geometry.trajectory[:20])


# --- patterns -----------------------------------------------------------------------------------


def test_every_slice_may_have_a_pattern_of_its_own(full):
    protocol = cartesian("acquisition.pattern=random", "acquisition.per_slice=true")
    kept = mr_problem(full, protocol).study
    assert kept.geometry.is_per_slice
    assert not kept.geometry.is_3d
    assert len({m.tobytes() for m in kept.geometry.mask}) == SHAPE[0]
    assert kept.geometry.acceleration == pytest.approx(2.0)
    assert torch.equal(kept.measurements != 0, torch.from_numpy(kept.geometry.samples.copy())
                       & (full.measurements != 0))  # fmt: skip
    result = run(full, protocol)
    assert error_of(result, "cg_sense") < 0.1


@pytest.mark.parametrize("pattern", ["uniform", "random", "poisson"])
def test_3d_scans_leave_samples_out_along_both_axes(pattern):
    grid = Grid.centred((20, 24, 16), (4.0, 4.0, 4.0))
    image = Volume(torch.rand(grid.shape, generator=torch.Generator().manual_seed(0)), grid,
                   Unit.ARBITRARY)  # fmt: skip
    protocol = cartesian(
        f"acquisition.pattern={pattern}",
        "acquisition.encoded=3",
        "acquisition.axes=[z, y]",
        "acquisition.acceleration=3.0",
        "acquisition.calibration_lines=8",
    )
    geometry = simulate(image, protocol, seed=1).geometry
    assert geometry.is_3d
    mask = geometry.mask[..., 0]
    assert (geometry.mask == mask[..., None]).all()
    assert geometry.acceleration == pytest.approx(3.0, rel=1e-2)
    assert mask[6:14, 8:16].all()
    outer = mask.copy()
    outer[6:14, 8:16] = False
    for axis in (0, 1):  # every partition and, in some partition, every line
        assert (outer.sum(axis=axis) > 0).mean() > 0.8
    assert len({row.tobytes() for row in outer}) > 10


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["acquisition.per_slice=true", "acquisition.encoded=3"], "encoded together"),
        (["acquisition.axes=[y, z]"], r"expected \[y\] or \[z, y\]"),
        (["acquisition.acceleration=1.0", "acquisition.pattern=as_measured",
          "acquisition.per_slice=true"], "needs a pattern"),
        (["coil_compression={method: svd}"], "coils: is missing"),
        (["coil_maps={methods: walsh}"], "did you mean method"),
        (["coil_maps={method: walsh, sets: 2}"], "only espirit has several"),
        (["coil_maps={sets: 2}", "baselines=[{method: tv}]"], "takes one set of coil maps"),
        (["partial_fourier=pox"], "'zero_fill', 'homodyne' or 'pocs'"),
        (["output.parts=[magnitude, magnitude]"], "at most once"),
        (["output.parts=[magnitud]"], "'magnitude', 'phase' or 'complex'"),
        (["baselines=[{method: gridding}]"], "gridding is not for cartesian"),
        (["baselines=[{method: wavelet, weight: 0}]"], "needs a weight above 0"),
        (["beam_hardening={coefficients: [1], limit: 8}"], "is for CT"),
    ],
)  # fmt: skip
def test_mr_settings_that_make_no_sense_are_refused(overrides, reason):
    with pytest.raises(ProtocolError, match=reason):
        cartesian(*overrides)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("spokes: 60", "interleaves: 60", "spokes: radial needs their number"),
        ("spokes: 60", "spokes: 60\n  interleaves: 3", "interleaves: is not for radial"),
        ("pattern: radial", "pattern: spiral", "interleaves: spiral needs their number"),
        ("pattern: radial", "pattern: koosh\n  golden: true", "golden: is not for koosh"),
        ("spokes: 60", "spokes: 60\n  acceleration: 2", "acceleration: unknown key where kind is"),
        ("baselines:", "partial_fourier: pocs\nbaselines:", "partial_fourier: is for cartesian"),
        ("baselines:", "coil_compression: {method: geometric, coils: 4}\nbaselines:",
         "geometric is for cartesian"),
        ("gridding", "grappa", "grappa is not for non_cartesian, use gridding"),
    ],
)  # fmt: skip
def test_settings_of_trajectories_that_make_no_sense_are_refused(along, old, new, reason):
    with pytest.raises(ProtocolError, match=reason):
        along(RADIAL.replace(old, new))


def test_a_prior_takes_one_set_of_maps():
    with pytest.raises(ProtocolError, match="sets: 1"):
        load_protocol("mr_cartesian_r4", ["coil_maps={sets: 2}"])


def test_ct_has_no_coils():
    with pytest.raises(ProtocolError, match=r"coil_maps: is for MR"):
        load_protocol("ct_cone_sparse", ["coil_maps={sets: 1}"])


# --- coils --------------------------------------------------------------------------------------


def test_several_map_sets_make_one_image(scan):
    one, two = (run(scan, cartesian(f"coil_maps.sets={n}")) for n in (1, 2))
    assert two.report["coil_maps"]["sets"] == 2
    a, b = one.volumes["cg_sense"], two.volumes["cg_sense"]
    assert b.data.shape == SHAPE
    assert b.phase is not None
    assert float((a.data - b.data).norm() / a.data.norm()) < 0.1
    for method in ("zero_filled", "adjoint"):
        assert two.volumes[method].data.shape == SHAPE


def test_the_record_tells_how_coils_were_calibrated(scan):
    facts = run(scan, cartesian()).report["coil_maps"]
    assert facts["method"] == "espirit"
    assert facts["sets"] == 1
    assert facts["calibration_lines"] == [14, SHAPE[2]]
    assert facts["condition_number"] > 1
    twin = replace(scan, measurements=torch.cat([scan.measurements, scan.measurements[:, :1]], 1))
    assert mr_problem(twin, cartesian()).facts["coil_maps"]["condition_number"] is None


@pytest.mark.parametrize("method", ["svd", "geometric"])
def test_compressed_coils_give_nearly_the_same_image(scan, method):
    plain = run(scan, cartesian())
    fewer = run(scan, cartesian(f"coil_compression={{method: {method}, coils: 5}}"))
    facts = fewer.report["coil_compression"]
    assert (facts["coils"], facts["of"]) == (5, 6)
    assert facts["energy_kept"] > 0.95
    a, b = plain.volumes["cg_sense"].data, fewer.volumes["cg_sense"].data
    assert float((a - b).norm() / a.norm()) < 0.05
    assert run(scan, cartesian("coil_compression={coils: 6}")).report["coil_compression"] is None


def test_maps_from_a_file_are_taken_and_have_to_fit(scan, tmp_path):
    true = coil_sensitivities(GRID, 6).transpose(0, 1)
    np.save(tmp_path / "maps.npy", true.numpy())
    protocol = cartesian(f"coil_maps.file={tmp_path / 'maps.npy'}")
    result = run(scan, protocol)
    assert result.report["coil_maps"] == {"sets": 1, "method": "given"}
    assert error_of(result, "cg_sense") < 0.06
    assert protocol.model_dump(mode="json")["coil_maps"]["file"] == "maps.npy"
    np.save(tmp_path / "maps.npy", true[:, :5].numpy())
    with pytest.raises(InconsistentError, match=r"the data need complex \(z, coils, y, x\)"):
        run(scan, protocol)


def test_paths_are_meant_beside_the_protocol_and_not_absolute(along):
    text = RADIAL + "coil_maps:\n  file: {}\n"
    assert along(text.format("maps.npy")).coil_maps.file.endswith("/maps.npy")
    with pytest.raises(ProtocolError, match="absolute paths are not followed"):
        along(text.format("/maps.npy"))
    with pytest.raises(ProtocolError, match="field_map_file: addresses"):
        along(RADIAL + "field_map_file: ~/f.nii\n")


# --- scale and noise ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("acquisition.pattern=random",),
        ("acquisition.acceleration=1.0", "acquisition.pattern=as_measured"),
        ("acquisition.pattern=poisson", "acquisition.acceleration=3.0"),
    ],
)
def test_the_scale_is_near_the_truths_percentile_whatever_the_pattern(settings):
    protocol = cartesian(*settings)
    study = simulate(head(), protocol, seed=2)
    problem = mr_problem(study, protocol)
    assert problem.facts["scale"]["value"] == pytest.approx(problem.data_range, rel=0.12)
    assert problem.facts["scale"]["percentile"] == 99.5


def test_the_scale_needs_no_full_middle_and_no_grid(full, along):
    """Without density compensation both of these would be off by a factor of 2 and more."""
    sparse = full.geometry.mask.copy()
    sparse[::2] = False
    lattice = replace(
        full,
        geometry=Cartesian(mask=sparse),
        measurements=full.measurements * torch.from_numpy(sparse),
        maps=coil_sensitivities(GRID, 6).transpose(0, 1).contiguous(),
    )
    spokes = simulate(head(), along(), seed=2)
    for study, protocol in ((lattice, cartesian()), (spokes, along())):
        problem = mr_problem(study, protocol)
        assert problem.facts["scale"]["value"] == pytest.approx(problem.data_range, rel=0.12)


def test_samples_that_were_averaged_more_often_count_for_more(scan):
    lines = torch.ones(SHAPE[1], 1)
    lines[::2] = 4.0
    weighted = mr_problem(replace(scan, weights=lines), cartesian()).data
    plain = mr_problem(scan, cartesian()).data
    assert torch.equal(weighted.precision, plain.precision * lines)


def test_the_noise_of_a_trajectory_is_estimated(along):
    protocol = along()
    study = simulate(head(), protocol, seed=2)
    guessed = mr_problem(replace(study, noise_std=None), protocol).study.noise_std
    assert guessed == pytest.approx(study.noise_std, rel=0.25)


# --- a missing side of k-space ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["rss", "adaptive"])
def test_partial_fourier_fills_what_the_direct_methods_lack(full, method):
    mask = full.geometry.mask.copy()
    mask[:14] = False
    partial = replace(
        full,
        geometry=Cartesian(mask=mask),
        measurements=full.measurements * torch.from_numpy(mask),
    )
    errors = {
        how: error_of(run(partial, load_protocol("mr_cartesian_r4", [
            *FULL, f"baselines=[{{method: {method}}}]", f"partial_fourier={how}"
        ])), method)
        for how in ("zero_fill", "homodyne", "pocs")
    }  # fmt: skip
    assert errors["pocs"] < 0.75 * errors["zero_fill"]
    assert 0 < errors["homodyne"] < 0.08  # its ramp costs smooth objects more than it gains


# --- off-resonance ------------------------------------------------------------------------------


def test_a_field_map_undoes_what_off_resonance_does(along, tmp_path):
    text = RADIAL.replace("spokes: 60", "spokes: 60\n  readout_ms: 8.0")
    study = simulate(head(), along(text), seed=2)
    field = torch.linspace(-60, 60, SHAPE[2]).expand(SHAPE).clone()
    write_nifti(Volume(field, GRID, Unit.ARBITRARY), tmp_path / "field.nii.gz")
    np.save(tmp_path / "field.npy", field.numpy())
    from medrecon.operators.sense import sense_operator

    maps = coil_sensitivities(GRID, 6).transpose(0, 1).contiguous()
    study = replace(study, maps=maps)
    truth = torch.polar(study.reference, study.reference_phase)
    bent = sense_operator(study.geometry, maps, field_map=field)(truth)
    study = replace(study, measurements=bent)
    wrong = run(study, along(text))
    for name in ("field.nii.gz", "field.npy"):
        right = run(study, along(text, f"field_map_file={tmp_path / name}"))
        assert error_of(right, "cg_sense") < 0.4 * error_of(wrong, "cg_sense")


# --- series -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def series():
    protocol = load_protocol("mr_cartesian_r4", [*FULL, "acquisition.noise_std=0.05"])
    return tuple(
        replace(simulate(head(b), protocol, seed=7 + i), label=f"repetition-{i}")
        for i, b in enumerate((800.0, 700.0, 650.0, 500.0), 1)
    )


def test_a_series_is_reconstructed_together_and_reported_one_by_one(series):
    protocol = cartesian(
        "acquisition.pattern=random",
        "acquisition.acceleration=2.2",
        "acquisition.noise_std=0.05",
        "baselines=[{method: cg_sense, iterations: 20}, {method: llr, iterations: 30}]",
    )
    results = []
    for events in reconstruct_all(series, protocol):
        while True:
            try:
                next(events)
            except StopIteration as end:
                results.append(end.value)
                break
    assert len(results) == len(series)
    assert len({r.report["scale"]["value"] for r in results}) == 1
    assert results[0].report["scale"]["image"] == "repetition-1"  # the brightest
    for result in results:
        assert error_of(result, "llr") < error_of(result, "cg_sense")
    masks = [p.study.geometry.mask.tobytes() for p in mr_problems(series, protocol)]
    assert len(set(masks)) == len(series)  # every image is thinned by a pattern of its own


def test_a_pattern_does_not_depend_on_which_images_are_taken(series):
    protocol = cartesian("acquisition.pattern=random")
    alone = mr_problem(series[2], protocol, seed=5)
    among = mr_problems(series, protocol, seed=5)[2]
    np.testing.assert_array_equal(alone.study.geometry.mask, among.study.geometry.mask)


def test_a_single_image_is_no_series(scan):
    with pytest.raises(InconsistentError, match="llr takes a series"):
        run(scan, cartesian("baselines=[{method: llr}]"))


def test_default_weights_are_the_methods_own():
    assert Baseline(method="tv").strength > 0
    assert Baseline(method="cg_sense").strength == 0
    assert Baseline(method="wavelet", weight=7.0).strength == 7
