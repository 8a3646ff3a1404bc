import json

import pytest

from medrecon.benchmark import SUITES, cases_of
from medrecon.benchmark.classical import METHODS
from medrecon.benchmark.learned import SAMPLINGS, alone, sampling, shipped_safety
from medrecon.benchmark.rows import Rows, fingerprint
from medrecon.errors import UnreadableError, UsageError
from tests.benchmarks.quality import BARS, judged

CASES = cases_of("all")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.suite}-{case.name}")
def test_every_case_is_a_protocol_with_every_preset(case):
    for preset in SAMPLINGS:
        protocol = alone(case.load(3, preset.changes(case.modality)))
        assert protocol.sampler.preset == preset.preset
        assert protocol.sampler.steps == preset.steps
        assert protocol.modality == case.modality
        assert protocol.grid is None or protocol.grid.shape[0] == 3
        made = {baseline.method for baseline in protocol.baselines}
        assert protocol.sampler.start in {"noise", *made}
    assert case.load(3).acquisition.kind in METHODS


@pytest.mark.parametrize("case", CASES[::7], ids=lambda case: case.name)
def test_ours_is_measured_with_the_safety_that_users_get(case):
    shipped = case.load(3)
    assert shipped.sampler.safety is not None
    changes = (*sampling("medrecon@8").changes("CT"), *shipped_safety(shipped))
    ours = alone(case.load(3, changes))
    assert ours.sampler.safety == shipped.sampler.safety
    assert "tv" in {baseline.method for baseline in ours.baselines}


def test_cases_of_a_suite_have_names_of_their_own():
    for cases in SUITES.values():
        assert len({case.name for case in cases}) == len(cases)


def test_suites_have_the_scans_that_benchmarks_of_the_field_have():
    views = {case.load(1).acquisition.views for case in SUITES["ct-sparse"]}
    assert views >= {8, 15, 30, 60}
    assert {case.load(1).acquisition.arc_deg for case in SUITES["ct-limited"]} == {90, 120}
    assert {case.load(1).acquisition.acceleration for case in SUITES["mr-cartesian"]} == {4, 8}


@pytest.mark.parametrize(("suite", "names"), [("nope", ()), ("ct-sparse", ("cone-33",))])
def test_an_unknown_suite_or_case_is_told_what_there_is(suite, names):
    with pytest.raises(UsageError, match="ct-sparse"):
        cases_of(suite, names)


@pytest.mark.parametrize("name", ["tvv", "medrecon", "medrecon@0", "@20", "medrecon@20 "])
def test_what_is_no_method_is_refused(name):
    with pytest.raises(UsageError, match="PRESET@STEPS"):
        sampling(name)


def row(key, **more):
    return {"key": key, "suite": "ct-sparse", "case": "cone-32", "seed": 0, **more}


def test_rows_are_there_again_and_a_line_cut_off_by_a_kill_is_not(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = Rows(path)
    rows.add(row("a", psnr=1.0))
    rows.add(row("b", psnr=2.0))
    with path.open("a") as file:
        file.write('{"key": "c", "psn')
    again = Rows(path)
    assert [r["key"] for r in again] == ["a", "b"]
    again.add(row("c", psnr=3.0))
    again.add(row("a", psnr=4.0))
    last = Rows(path)
    assert {r["key"]: r["psnr"] for r in last} == {"a": 4.0, "b": 2.0, "c": 3.0}


def test_a_file_that_holds_no_rows_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"psnr": 3}) + "\n")
    with pytest.raises(UnreadableError, match="line 1"):
        Rows(path)


def test_a_key_changes_with_what_a_row_depends_on():
    assert fingerprint(prior="a", steps=3) != fingerprint(prior="b", steps=3)
    assert fingerprint(prior="a", steps=3) == fingerprint(steps=3, prior="a")


def test_bars_are_of_cases_that_exist():
    assert set(BARS) <= {f"{case.suite} {case.name}" for case in CASES}


@pytest.mark.parametrize(("ours", "fits", "expected"), [(34.2, True, True), (33.8, True, False)])
def test_a_bar_is_kept_or_missed(ours, fits, expected):
    rows = [row("a", method="tv", psnr=30.0), row("b", method="medrecon@20", psnr=ours)]
    assert [kept for kept, _ in judged(rows)] == [expected]


@pytest.mark.parametrize(("safety", "expected"), [(True, False), (False, True)])
def test_losing_to_total_variation_has_to_be_said_by_the_run(safety, expected):
    rows = [
        row("a", method="tv", psnr=30.0),
        row("b", method="medrecon@4", psnr=29.0, safety={"fits": safety}),
    ]
    assert [kept for kept, _ in judged(rows)] == [expected]
