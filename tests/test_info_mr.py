"""What info says of MR scans: measured from the samples, for every image, of nobody."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ismrmrd import xsd

from medrecon import cli
from medrecon.geometry import Cartesian, NonCartesian
from medrecon.info import condense, describe
from medrecon.io.ismrmrd import read_ismrmrd
from medrecon.sampling_facts import sampling_facts
from medrecon.trajectories import koosh, radial, spiral, stack
from tests.io.mrd_files import Scan
from tests.io.test_ismrmrd import images


def lines(*measured: int, of: int, width: int = 6) -> Cartesian:
    mask = np.zeros((of, width), dtype=bool)
    mask[list(measured)] = True
    return Cartesian(mask=mask)


# --- Cartesian patterns -------------------------------------------------------------------------


def test_a_complete_scan_needs_no_further_word() -> None:
    facts = sampling_facts(Cartesian(mask=np.ones((8, 6), dtype=bool)))
    assert facts == {
        "kind": "cartesian",
        "encoding": "2D",
        "matrix": [8, 6],
        "acceleration": 1.0,
        "pattern": "fully sampled",
    }


def test_every_fourth_line_with_a_dense_middle() -> None:
    measured = sorted({*range(0, 64, 4), *range(26, 38)})
    facts = sampling_facts(lines(*measured, of=64))
    assert facts["pattern"] == f"{len(measured)} of 64 lines along y, every 4th and the middle"
    assert facts["acceleration"] == pytest.approx(64 / len(measured), abs=1e-3)
    assert facts["calibration_lines"] == {"y": 12}
    assert "partial_fourier" not in facts


def test_every_third_line_has_no_calibration() -> None:
    facts = sampling_facts(lines(*range(0, 60, 3), of=60))
    assert facts["pattern"] == "20 of 60 lines along y, every 3rd"
    assert facts["calibration_lines"] == {"y": 0}


def test_irregular_lines_are_called_so() -> None:
    facts = sampling_facts(lines(0, 3, 5, 12, 15, 16, 17, 24, 30, of=32))
    assert "irregular" in facts["pattern"]
    assert facts["calibration_lines"] == {"y": 3}


def test_a_missing_side_is_partial_fourier() -> None:
    facts = sampling_facts(lines(*range(16, 64), of=64))
    assert facts["partial_fourier"] == {"y": 0.75}
    assert facts["pattern"] == "48 of 64 lines along y, side by side"


def test_an_asymmetric_echo_is_told_by_its_columns() -> None:
    mask = np.ones((8, 20), dtype=bool)
    mask[:, :5] = False
    facts = sampling_facts(Cartesian(mask=mask))
    assert facts["pattern"] == "15 of 20 columns along x, side by side"
    assert facts["partial_fourier"] == {"x": 0.75}


def test_points_in_the_plane_are_no_lines() -> None:
    mask = np.random.default_rng(0).random((32, 32)) < 0.3
    mask[12:20, 13:19] = True
    facts = sampling_facts(Cartesian(mask=mask))
    assert facts["pattern"] == "irregular in y and x"
    assert facts["calibration_lines"]["y"] >= 8
    assert facts["calibration_lines"]["x"] >= 6


def test_three_encoded_axes_keep_whole_readouts() -> None:
    mask = np.zeros((16, 16, 4), dtype=bool)
    mask[::2, ::2] = True
    mask[6:10, 5:11] = True
    facts = sampling_facts(Cartesian(mask=mask))
    assert facts["encoding"] == "3D"
    assert facts["pattern"] == "irregular in z and y, whole readouts"
    assert facts["calibration_lines"] == {"z": 4, "y": 6}


def test_patterns_of_their_own_are_told_with_the_range_of_accelerations() -> None:
    mask = np.zeros((2, 12, 4), dtype=bool)
    mask[0, ::2] = True
    mask[1, ::3] = True
    mask[:, 5:8] = True
    facts = sampling_facts(Cartesian(mask=mask, encoded=2))
    assert facts["pattern"].startswith("of its own in every slice")
    assert facts["acceleration_of_slices"] == [1.5, 2.0]
    assert facts["calibration_lines"] == {"y": 3}  # what both slices have


# --- trajectories -------------------------------------------------------------------------------


def test_spokes_are_known_with_their_angle_and_acceleration() -> None:
    facts = sampling_facts(radial((32, 32), 21, 64, golden=True))
    assert facts["trajectory"] == "radial"
    assert facts["angle_step_deg"] in (
        pytest.approx(111.246, abs=0.01),
        pytest.approx(68.754, abs=0.01),
    )
    assert facts["acceleration"] == pytest.approx(math.pi / 2 * 32 / 21, rel=0.05)


def test_spirals_are_curved_and_koosh_balls_radial() -> None:
    assert sampling_facts(spiral((32, 32), 4, 200))["trajectory"] == "curved"
    ball = sampling_facts(koosh((16, 16, 16), 40, 32))
    assert ball["encoding"] == "3D"
    assert ball["trajectory"].startswith("radial")


def test_partitions_of_a_stack_are_counted() -> None:
    partitions = np.array([True, False, True, True])
    facts = sampling_facts(stack(radial((16, 16), 9, 32), partitions))
    assert facts["partitions"] == "3 of 4"
    assert facts["encoding"] == "3D"


def test_lines_that_miss_the_centre_are_not_called_radial() -> None:
    k = np.zeros((3, 9, 2))
    k[..., 1] = np.linspace(-4, 4, 9)
    k[..., 0] = np.array([-3, 0, 3])[:, None]
    assert sampling_facts(NonCartesian(trajectory=k))["trajectory"] == "straight lines"


# --- the command --------------------------------------------------------------------------------


def _contrasts(acquisition: Any) -> None:
    acquisition.idx.contrast, acquisition.idx.average = acquisition.idx.average, 0


def _patient(header: Any) -> None:
    header.subjectInformation = xsd.subjectInformationType(patientName="ZZPHI^CANARY")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).standard_normal((4, 3, 64))
    made = Scan(
        images(slices=2), averages=3, on_acquisition=_contrasts, on_header=_patient, noise=noise
    )
    return made.write(tmp_path / "scan.h5")


def test_every_image_of_a_file_is_described(scan: Path, capsys: Any) -> None:
    assert cli.invoke(["info", str(scan), "--json"]) == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    assert list(facts["images"]) == ["contrast-1", "contrast-2", "contrast-3"]
    for one in facts["images"].values():
        assert one["shape"] == [2, 3, 12, 10]
        assert one["shape_axes"] == ["z", "coils", "y", "x"]
        assert one["coils"] == 3
        assert one["grid"]["orientation"] == "axial, oblique by 14.9 degrees"
        assert one["acquisition"]["oversampling_removed"] == 2
        assert one["acquisition"]["noise_scan"]["samples"] == 4 * 64
    assert "CANARY" not in captured.out + captured.err


def test_in_words_what_images_share_is_said_once(scan: Path, capsys: Any) -> None:
    assert cli.invoke(["info", str(scan)]) == 0
    out = capsys.readouterr().out
    assert out.count("oversampling_removed") == 1
    assert "contrast-1, contrast-2, contrast-3" in out
    assert "not known" not in out.partition("noise_std")[2].splitlines()[0]


def test_what_images_do_not_share_stands_under_their_labels(scan: Path) -> None:
    facts = describe(read_ismrmrd(scan))
    facts["images"]["contrast-2"]["geometry"]["acceleration"] = 7.0
    told = condense(facts)
    assert told["images"]["contrast-2"] == {"geometry": {"acceleration": 7.0}}
    assert "acceleration" not in told["geometry"]
    assert told["coils"] == 3
