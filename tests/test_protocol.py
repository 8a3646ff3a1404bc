"""Protocol files: read strictly, refused in one sentence that names the place and the way out."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from medrecon.errors import ProtocolError, UsageError
from medrecon.protocol import METHODS, Baseline, Protocol
from medrecon.protocol_files import load_protocol, shipped_protocols
from medrecon.scanner import grid_of, kind_of, scanner
from medrecon.yaml_loader import MAX_BYTES, load_yaml

MINIMAL = """\
schema_version: 1
name: tiny
title: A tiny cone-beam scan
modality: CT
acquisition:
  kind: cone
  views: 8
  source_to_axis_mm: 100
  source_to_detector_mm: 150
  columns: 16
  column_spacing_mm: 1
  rows: 8
  row_spacing_mm: 1
grid:
  shape: [4, 8, 8]
  spacing_mm: [1, 1, 1]
baselines:
  - method: fdk
prior:
  name: ct
sampler:
  steps: 4
  start: fdk
"""
SHIPPED = [
    "ct_c_arm",
    "ct_cone_sparse",
    "ct_fan_limited_angle",
    "ct_half_fan_cbct",
    "ct_helical",
    "ct_micro",
    "ct_parallel_dxchange",
    "ct_short_scan_cbct",
    "mr_cartesian_r4",
    "mr_poisson",
    "mr_radial",
    "mr_spiral",
    "mr_stack_of_stars",
    "mr_stack_r4",
    "mr_stack_r8",
]


@pytest.fixture
def write(tmp_path):
    def writer(content):
        path = tmp_path / "my.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return writer


def refusal(path, *overrides):
    with pytest.raises(ProtocolError) as caught:
        load_protocol(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- what is accepted -------------------------------------------------------------------------


def test_every_shipped_protocol_is_valid_and_named_like_its_file():
    assert sorted(shipped_protocols()) == SHIPPED
    for name in SHIPPED:
        assert load_protocol(name).name == name


def test_a_protocol_is_found_by_path_by_name_and_by_file_name(write):
    assert load_protocol(write(MINIMAL)).name == "tiny"
    assert load_protocol("mr_poisson") == load_protocol("mr_poisson.yaml")


def test_a_protocol_cannot_be_changed(write):
    protocol = load_protocol(write(MINIMAL))
    with pytest.raises(ValidationError):
        protocol.name = "other"


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbf" + MINIMAL.encode(), MINIMAL.replace("\n", "\r\n").encode()],
    ids=["byte order mark", "windows line ends"],
)
def test_editors_habits_change_nothing(write, content):
    assert load_protocol(write(content)) == Protocol.model_validate(
        load_yaml(MINIMAL.encode(), "x").value
    )


def test_a_number_with_exponent_and_no_dot_is_a_number(write):
    path = write(MINIMAL.replace("kind: cone", "kind: cone\n  photons: 1e5"))
    assert load_protocol(path).acquisition.photons == 1e5


def test_words_that_yaml_1_1_reinterprets_stay_text():
    value = load_yaml(b"a: no\nb: on\nc: 010\nd: 1:30\ne: 0x10\nf: 1_000\ng: 2026-01-01\n", "x")
    assert value.value == {
        "a": "no",
        "b": "on",
        "c": "010",
        "d": "1:30",
        "e": "0x10",
        "f": "1_000",
        "g": "2026-01-01",
    }


def test_quotes_make_text_of_anything():
    assert load_yaml(b"a: '1'\nb: \"null\"\n", "x").value == {"a": "1", "b": "null"}


def test_marks_say_where_every_key_stands():
    marks = load_yaml(b"a: 1\nb:\n  - x\n  - c: 2\n", "x").marks
    assert str(marks["b", 1, "c"]) == "line 4:5"
    assert str(marks["b", 0]) == "line 3:5"


# --- overrides ----------------------------------------------------------------------------------


def test_overrides_replace_nested_settings_with_the_schemas_type(write):
    protocol = load_protocol(
        write(MINIMAL),
        ["acquisition.views=5", "sampler.trust=2", "name=7", "grid.shape=[1, 2, 3]"],
    )
    assert protocol.acquisition.views == 5
    assert protocol.sampler.trust == 2.0
    assert protocol.name == "7"
    assert protocol.grid.shape == (1, 2, 3)


def test_overrides_reach_list_items_and_absent_blocks(write):
    protocol = load_protocol(
        write(MINIMAL), ["baselines.0.filter=hann", "sampler.tv_z.weight=0.1", "output.dicom=false"]
    )
    assert protocol.baselines[0].filter == "hann"
    assert protocol.sampler.tv_z.weight == 0.1
    assert protocol.output.dicom is False


def test_null_takes_a_block_away(write):
    assert load_protocol(write(MINIMAL), ["prior=null", "sampler=null"]).prior is None


@pytest.mark.parametrize(
    "override", ["a.b", "acquisition", "=3", "a..b=1", "name.x=1", "baselines.4.weight=1"]
)
def test_an_override_that_cannot_be_applied_is_a_usage_error(write, override):
    with pytest.raises(UsageError, match="--set"):
        load_protocol(write(MINIMAL), [override])


def test_a_wrong_override_is_named_instead_of_the_file(write):
    assert refusal(write(MINIMAL), "acquisition.veiws=5") == (
        "--set acquisition.veiws: unknown key, did you mean views?"
    )


# --- what is refused ----------------------------------------------------------------------------


def test_a_misspelt_key_names_line_column_and_the_nearest_key(write):
    message = refusal(write(MINIMAL.replace("views: 8", "veiws: 8")))
    assert message == "my.yaml line 7:3: acquisition.veiws: unknown key, did you mean views?"


def test_a_key_in_the_wrong_block_names_the_right_block(write):
    message = refusal(write(MINIMAL + "tv_z:\n  weight: 1\n"))
    assert "did you mean sampler.tv_z?" in message


def test_a_key_of_another_kind_of_scan_says_so(write):
    message = refusal(write(MINIMAL.replace("kind: cone", "kind: fan")))
    assert "acquisition.row" in message
    assert "where kind is fan" in message


def test_a_newer_schema_says_so_before_anything_else(write):
    message = refusal(write("schema_version: 2\nwhatever: 3\n"))
    assert message.startswith("my.yaml line 1:1: schema_version: 2 is written for a newer medrecon")


@pytest.mark.parametrize("version", ["true", "'1'", "1.0", "null"])
def test_the_schema_version_is_the_number_one(write, version):
    assert "schema_version" in refusal(write(MINIMAL.replace("version: 1", f"version: {version}")))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("views: 8", "views: no", "acquisition.views"),
        ("views: 8", "views: 010", "acquisition.views"),
        ("views: 8", "views: 1:30", "acquisition.views"),
        ("views: 8", "views: -3", "acquisition.views"),
        ("views: 8", "views: 0", "acquisition.views"),
        ("views: 8", "views: 8.0", "acquisition.views"),
        ("views: 8", "views: 1000000000", "acquisition.views"),
        ("views: 8", "views: " + "9" * 5000, "acquisition.views"),
        ("source_to_axis_mm: 100", "source_to_axis_mm: .inf", "acquisition.source_to_axis_mm"),
        ("source_to_axis_mm: 100", "source_to_axis_mm: .nan", "acquisition.source_to_axis_mm"),
        ("source_to_axis_mm: 100", "source_to_axis_mm: 1e999", "acquisition.source_to_axis_mm"),
        ("source_to_axis_mm: 100", "source_to_axis_mm: '100'", "acquisition.source_to_axis_mm"),
        ("shape: [4, 8, 8]", "shape: [4, 8]", "grid.shape"),
        ("shape: [4, 8, 8]", "shape: [4, 8, 8, 8]", "grid.shape"),
        ("shape: [4, 8, 8]", "shape: [4, 8, '8']", "grid.shape.2"),
        ("shape: [4, 8, 8]", "shape: 4", "grid.shape"),
        ("kind: cone", "kind: spiral", "acquisition.kind"),
        ("  kind: cone\n", "", "acquisition.kind"),
        ("title: A", "titel: A", "titel"),
        ("name: tiny", "name: ../tiny", "name"),
        ("name: tiny", "name: 7", "name"),
        ("steps: 4", "steps: 1000000000", "sampler.steps"),
        ("name: ct\n", "name: https://example.org/ct\n", "prior.name"),
        ("name: ct\n", "name: ~/ct\n", "prior.name"),
        ("name: ct\n", "name: $HOME/ct\n", "prior.name"),
    ],
)
def test_a_wrong_value_names_its_key(write, old, new, key):
    assert old in MINIMAL
    message = refusal(write(MINIMAL.replace(old, new)))
    assert f" {key}: " in message
    assert message.startswith("my.yaml line ")
    assert len(message) < 250


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("modality=MR", "acquisition.kind: cone is not MR"),
        ("grid=null", "a CT protocol has to say shape"),
        ("prior=null", "prior: needed as sampler is given"),
        ("sampler=null", "sampler: needed as prior is given"),
        ("baselines=[{method: fbp}]", "fbp is not for cone, use fdk, cgls, tv"),
        ("baselines=[{method: cg_sense}]", "cg_sense is not for cone"),
        ("baselines=[{method: fdk}, {method: fdk}]", "fdk is listed twice"),
        ("baselines=[{method: tv}]", "total variation needs a weight above 0"),
        ("baselines=[]", "expected at least 1 item"),
        ("acquisition.source_to_detector_mm=90", "must exceed source_to_axis_mm"),
        ("acquisition.column_offset_mm=9", "off the central ray"),
        ("acquisition.row_offset_mm=-4", "off the central ray"),
        ("sampler.sigma_end=2", "must be below sigma_start"),
        ("sampler.start=tv", "tv is not among the baselines (fdk)"),
        ("output.preview={low: 1, high: 1}", "must be above low"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(write, override, reason):
    assert reason in refusal(write(MINIMAL), override)


def test_acceleration_without_a_pattern_is_refused():
    assert "needs a pattern" in refusal("mr_poisson", "acquisition.acceleration=4.0")


def test_an_mr_protocol_leaves_the_grid_to_the_scan():
    message = refusal("mr_poisson", "grid={shape: [1, 8, 8], spacing_mm: [1, 1, 1]}")
    assert "an MR scan's header says the grid" in message


def test_every_method_fits_some_kind_of_acquisition():
    known = Baseline.model_fields["method"].annotation.__args__
    assert set(known) == {method for methods in METHODS.values() for method in methods}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"- a\n- b\n", "has to be a block of keys"),
        (b"just words", "has to be a block of keys"),
        (b"name: a\nname: b\n", "line 2:1: the key 'name' stands twice"),
        (b"a: &x 1\nb: *x\n", "anchors (&x) are not allowed"),
        (b"<<: {a: 1}\n", "merge keys"),
        (b"a: !!python/object/apply:os.system ['exit 1']\n", "tags"),
        (b"a: !!int '3'\n", "tags"),
        (b"a: 1\n---\nb: 2\n", "second document"),
        (b"a:\n\tb: 1\n", "line 2:1: tabs"),
        (b"a: [1, 2\n", "not valid YAML"),
        (b"a: 'x\n", "not valid YAML"),
        (b"a: \x07\n", "not valid YAML"),
        (b"? [a]\n: 1\n", "a key must be a word"),
        ("name: tiny".encode("utf-16"), "is not UTF-8 text"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_what_is_not_strict_yaml_is_refused_with_its_reason(write, content, reason):
    assert reason in refusal(write(content))


@pytest.mark.parametrize(
    "content",
    [
        b"a: &a [x,x,x,x]\n"
        + b"".join(b"%c: &%c [*%c,*%c]\n" % (i + 1, i + 1, i, i) for i in range(97, 120)),
        b"[" * 10_000,
        b"{a: " * 10_000,
        b"- " * 10_000,
        b"a: " + b"x" * MAX_BYTES,
    ],
    ids=["billion laughs", "deep lists", "deep blocks", "deep items", "too large"],
)
def test_bombs_are_refused_without_being_unfolded(write, content):
    assert len(refusal(write(content))) < 250


def test_an_unknown_protocol_names_the_nearest_shipped_one():
    assert "did you mean ct_cone_sparse?" in refusal("ct_cone_spares")
    assert "see: medrecon protocols" in refusal("/nowhere/at/all.yaml")


def test_a_priors_folder_is_meant_relative_to_the_protocol_file(write, tmp_path):
    path = write(MINIMAL.replace("name: ct\n", "name: ../weights/mine\n"))
    assert load_protocol(path).prior.name == str(tmp_path.parent / "weights" / "mine")


# --- CT scanners and what belongs to them -------------------------------------------------------

HELIX = (
    MINIMAL.replace("kind: cone", "kind: helical")
    .replace("views: 8", "pitch_mm: 4\n  turns: 2.5\n  views_per_turn: 8")
    .replace("method: fdk", "method: helical")
    .replace("start: fdk", "start: helical")
)
VECTORS = """\
schema_version: 1
name: arm
title: A C-arm
modality: CT
acquisition:
  kind: vectors
  matrices_file: MATRICES
  source_to_detector_mm: 1200
  columns: 16
  rows: 8
grid:
  shape: [4, 8, 8]
  spacing_mm: [1, 1, 1]
baselines:
  - method: fdk
"""


def test_a_helix_has_pitch_turns_and_a_flying_focal_spot(write):
    path = write(HELIX)
    protocol = load_protocol(
        path,
        [
            "acquisition.detector_radius_mm=150",
            "acquisition.focal_spot_mm=[[0.5, 0, 0.3], [-0.5, 0, -0.3]]",
        ],
    )
    geometry = scanner(protocol.acquisition)
    assert kind_of(geometry) == "helical"
    assert geometry.views == 20
    assert geometry.detector_radius == 150
    assert geometry.heights[8] - geometry.heights[0] == pytest.approx(4)
    assert geometry.heights[0] == pytest.approx(-geometry.heights[-1])
    assert geometry.focal_shifts[:3] == ((0.5, 0, 0.3), (-0.5, 0, -0.3), (0.5, 0, 0.3))


@pytest.mark.parametrize("name", [n for n in SHIPPED if n.startswith("ct_")])
def test_a_shipped_scanner_is_of_its_kind_and_draws_itself(name):
    protocol = load_protocol(name)
    geometry = scanner(protocol.acquisition)
    assert kind_of(geometry) == protocol.acquisition.kind
    figure = geometry[:: max(1, geometry.views // 40)].plot(grid_of(protocol))
    top, side = figure.axes
    assert "x, mm" in top.get_xlabel()
    assert "z, mm" in side.get_ylabel()
    assert top.yaxis_inverted()


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("acquisition.pitch_mm=0", "0 mm is no helix"),
        ("acquisition.turns=1e6", "more than a million views"),
        ("acquisition.views=8", "unknown key where kind is helical"),
        ("acquisition.detector_radius_mm=60", "must exceed half of source_to_detector_mm"),
        ("acquisition.column_spacing_mm=40", "degrees around its centre"),
        ("acquisition.focal_spot_mm=[[1, 2]]", "expected more than 2 items"),
        ("baselines=[{method: fdk}]", "fdk is not for helical, use helical"),
        ("rings={width: 8}", "rings.width: 8 has no middle"),
        ("beam_hardening={coefficients: [], limit: 8}", "at least 1 item"),
        ("beam_hardening={coefficients: [1]}", "limit: is missing"),
        ("counts={low_counts: drop}", "'exclude', 'clamp' or 'debias'"),
        ("file={images: /data}", "only a path inside the input"),
        ("file={flats: ../flats}", "only a path inside the input"),
        ("file={images: views}", "counts need a folder of flats"),
        ("file={flats: f, axes: [views, rows, rows]}", "once each"),
        ("backend=leap", "'native', 'matrix', 'triton' or 'astra'"),
    ],
)
def test_ct_settings_that_make_no_sense_are_refused(write, override, reason):
    message = refusal(
        write(HELIX.replace("  kind: helical", "  kind: helical\n  detector_radius_mm: 150")),
        override,
    )
    assert reason in message


def test_corrections_are_for_ct_only():
    assert "is for CT" in refusal("mr_poisson", "rings={}")


def test_matrices_are_meant_relative_to_the_protocol_file(write, tmp_path):
    path = write(VECTORS.replace("MATRICES", "arm/p.txt"))
    protocol = load_protocol(path)
    assert protocol.acquisition.matrices_file == str(tmp_path / "arm" / "p.txt")
    assert "arm" not in protocol.model_dump(mode="json")["acquisition"]["matrices_file"]
    assert Path(load_protocol("ct_c_arm").acquisition.matrices_file).is_file()


@pytest.mark.parametrize(
    "name", ["/data/p.txt", "https://example.org/p.txt", "~/p.txt", "$HOME/p.txt", "'C:\\p.txt'"]
)
def test_matrices_from_elsewhere_are_refused(write, name):
    message = refusal(write(VECTORS.replace("MATRICES", name)))
    assert message.startswith("my.yaml line 7:3: acquisition.matrices_file: ")
    assert "are not followed" in message
