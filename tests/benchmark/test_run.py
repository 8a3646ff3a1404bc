"""The loop: rows, resumption, reports and the command."""

import json

import pytest

from medrecon.benchmark import Settings, benchmark, run
from medrecon.benchmark.case import Lesion
from medrecon.benchmark.report import table, write_report
from medrecon.benchmark.suites import SUITES
from medrecon.cli import EXIT_USAGE, invoke
from medrecon.errors import UsageError
from tests.benchmark.small import blob, case, write_image

FIGURES = ("psnr", "ssim", "nrmse", "calls", "seconds", "peak_mb", "misfit")
SPOT = Lesion(low=-200.0, high=200.0, contrast=300.0, radius_mm=30.0)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return write_image(tmp_path_factory.mktemp("image") / "blob.nii.gz", blob())


def settings(image, **more):
    return Settings(image=image, **{"methods": ("fbp", "tv", "medrecon@2"), **more})


def rows_of(told):
    return [one for one in told if isinstance(one, dict)]


@pytest.fixture(scope="module")
def finished(image, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    used = settings(image, seeds=2)
    return folder, used, rows_of(benchmark([case()], used, folder))


def untimed(row):
    drop = ("seconds", "seconds_of_start", "seconds_of_safety", "peak_mb")
    return {key: value for key, value in row.items() if key not in drop}


def test_every_method_has_a_row_for_every_seed_with_every_figure(finished):
    _, _, rows = finished
    found = [(row["method"], row["seed"]) for row in rows]
    assert found == [(m, s) for s in (0, 1) for m in ("fbp", "tv", "medrecon@2")]
    assert all(set(FIGURES) <= set(row) for row in rows)
    assert [row["calls"] for row in rows] == [0, 0, 2] * 2
    assert rows[0]["psnr"] != rows[3]["psnr"]


def test_the_weight_of_total_variation_is_swept_with_other_noise(finished):
    _, _, rows = finished
    first, second = (row for row in rows if row["method"] == "tv")
    trials = {float(w): value for w, value in first["trials"].items()}
    assert first["weight"] == max(trials, key=trials.get) == second["weight"]
    assert first["settled"]
    assert len(trials) >= 3


def test_known_rows_are_not_measured_again(finished, monkeypatch):
    folder, used, rows = finished

    def refuse(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr("medrecon.benchmark.scan.measure", refuse)
    assert rows_of(benchmark([case()], used, folder)) == rows


def test_a_killed_run_goes_on_to_the_same_rows(finished, tmp_path):
    _, used, rows = finished
    told = benchmark([case()], used, tmp_path)
    next(one for one in told if isinstance(one, dict) and one["method"] == "tv")
    told.close()
    again = rows_of(benchmark([case()], used, tmp_path))
    assert [untimed(row) for row in again] == [untimed(row) for row in rows]


def test_another_sampler_setting_is_another_row(finished, image):
    folder, _, rows = finished
    used = settings(image, methods=("medrecon@2",), changes=("sampler.trust=2",))
    (row,) = rows_of(benchmark([case()], used, folder))
    assert row["key"] not in {old["key"] for old in rows}
    assert row["changes"] == ["sampler.trust=2"]


def test_lesions_are_looked_for_with_and_without(image):
    used = settings(image, methods=("fdk", "medrecon@2"), slices=4)
    rows = rows_of(benchmark([case("cone", slices=4, lesion=SPOT)], used))
    assert all(row["recovery"] == pytest.approx(1, abs=0.35) for row in rows)
    assert all(abs(row["invented"]) < 0.5 for row in rows)


def test_a_case_without_its_image_is_left_out_with_a_warning(image, tmp_path):
    used = Settings(data=tmp_path, methods=("fbp",))
    with pytest.warns(UserWarning, match="left out"):
        assert rows_of(benchmark([case(name="a"), case(name="b")], used)) == []


def test_what_is_no_method_is_refused_before_anything_is_measured():
    with pytest.raises(UsageError, match="tvv"):
        Settings(methods=("tvv",))


def test_a_report_has_table_plot_and_a_contact_sheet(finished, tmp_path):
    folder, _, rows = finished
    files = write_report(folder, rows)
    assert files == ["rows.json", "table.md", "quality.png", "ct-sparse-small.png"]
    for name in files[2:]:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "rows.json").read_text()) == rows
    text = (folder / "table.md").read_text()
    assert "2 seeds" in text
    assert "| medrecon@2 |" in text
    assert "±" in text


def test_the_table_says_where_the_prior_is_worse_and_whether_the_run_noticed():
    common = {"suite": "s", "case": "c", "seed": 0, "slices": 1, "planes": {}}
    tv = {**common, "method": "tv", "psnr": 30.0, "calls": 0}
    ours = {**common, "method": "medrecon@4", "psnr": 29.0, "calls": 4}
    assert "WORSE" in table([tv, ours])
    assert "unnoticed" in table([tv, {**ours, "safety": {"fits": True}}])
    assert "as the run itself says" in table([tv, {**ours, "safety": {"fits": False}}])
    assert "WORSE" not in table([tv, {**ours, "psnr": 29.9}])


def test_the_command_prints_a_row_a_line(image, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SUITES, "ct-sparse", (case(),))
    command = ["benchmark", "ct-sparse", "--image", str(image), "--methods", "fbp", "--json"]
    assert invoke([*command, "--device", "cpu", "--output", str(tmp_path / "out")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["method"] == "fbp"
    assert (tmp_path / "out" / "table.md").exists()


def test_a_quick_look_takes_the_first_and_the_last_case(image, monkeypatch):
    cases = [case(name=name) for name in "abc"]
    used = settings(image, quick=True, methods=("fbp",))
    assert [row["case"] for row in rows_of(benchmark(cases, used))] == ["a", "c"]
    assert run.QUICK_SLICES == 2


def test_an_unknown_suite_is_one_sentence(capsys):
    assert invoke(["benchmark", "nonsense"]) == EXIT_USAGE
    assert "ct-sparse" in capsys.readouterr().err
