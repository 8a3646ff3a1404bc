"""The command line: quick, helpful, and one sentence with its exit code when something is wrong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import medrecon
from medrecon import cli
from medrecon.errors import (
    InconsistentError,
    MedreconError,
    OutputError,
    ProtocolError,
    ResourceError,
    UnreadableError,
    UsageError,
    WeightsError,
)
from medrecon.grid import Grid
from medrecon.io.nifti import write_nifti
from medrecon.volume import Unit, Volume


@pytest.fixture
def medrecon_(capsys):
    """Run a command line in this process: exit code, stdout, lines of stderr."""

    def run(*arguments):
        code = cli.invoke([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return run


@pytest.fixture
def image(tmp_path):
    generator = torch.Generator().manual_seed(0)

    def make(name, noise=0.0):
        z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in (12, 24, 20)], indexing="ij")
        data = 1000.0 * (x**2 + y**2 + z**2 < 0.7) - 1000.0
        data = data + noise * torch.randn(data.shape, generator=generator)
        grid = Grid.centred((12, 24, 20), (2.0, 1.0, 1.5))
        write_nifti(Volume(data, grid, Unit.HU), tmp_path / name)
        return tmp_path / name

    return make


def is_one_sentence(lines):
    return len(lines) == 1 and lines[0].startswith("medrecon: error: ") and len(lines[0]) < 400


# --- quick and helpful --------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], []])
def test_help_needs_no_heavy_library(arguments):
    code = (
        "import sys; from medrecon import cli; code = cli.invoke(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'scipy', 'monai', 'numba', 'nibabel', 'h5py', 'yaml'};"
        "sys.exit(99 if heavy & set(sys.modules) else code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "medrecon" in done.stdout
    assert not done.stderr


@pytest.mark.parametrize("arguments", [["protocols"], ["validate", "ct_cone_sparse"]])
def test_checking_a_protocol_needs_no_torch(arguments):
    code = (
        "import sys; from medrecon import cli; code = cli.invoke(sys.argv[1:]);"
        "sys.exit(99 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_installed_program_says_its_version():
    program = Path(sys.executable).with_name("medrecon")
    if not program.exists():
        pytest.skip("medrecon is not installed beside this Python")
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    assert done.stdout == f"medrecon {medrecon.__version__}\n"


def test_protocols_are_listed_with_their_titles(medrecon_):
    code, out, err = medrecon_("protocols")
    assert (code, err) == (0, [])
    assert [line.split()[0] for line in out.splitlines()] == [
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


def test_priors_are_listed(medrecon_):
    code, _, err = medrecon_("priors")
    assert (code, err) == (0, [])


def test_doctor_reports_versions_devices_and_disk(medrecon_):
    code, out, err = medrecon_("doctor")
    assert (code, err) == (0, [])
    for word in (medrecon.__version__, torch.__version__, "[devices]", "free disk", "dcm2niix"):
        assert word in out


# --- every wrong call: its exit code and one line -----------------------------------------------

USAGE = [
    (["rnu"], "'run'"),
    (["frobnicate"], "No such command"),
    (["run"], "PROTOCOL"),
    (["run", "ct_cone_sparse"], "INPUT"),
    (["run", "ct_cone_sparse", "x.h5"], "--output"),
    (["run", "ct_cone_sparse", "x.h5", "-o", "out", "--sed", "1"], "did you mean --seed?"),
    (["run", "ct_cone_sparse", "x.h5", "-o", "out", "--seed", "-1"], "--seed"),
    (["run", "ct_cone_sparse", "x.h5", "-o", "out", "--seed", "now"], "--seed"),
    (["run", "ct_cone_sparse", "x.h5", "-o", "out", "extra"], "extra"),
    (["run", "ct_cone_sparse", "-", "-o", "out"], "standard input"),
    (["run", "ct_cone_sparse", "x.h5", "-o", "out", "--set", "a.b"], "key=value"),
    (["run", "ct_cone_sparse", "x.h5", "-o", "out", "--set"], "--set"),
    (["run", "ct_cone_sparse", "x.h5", "-o", "out", "--device", "gpu"], "use auto, cpu"),
    (["compare", "a.nii"], "B"),
    (["compare", "a.nii", "b.nii", "--data-range", "wide"], "--data-range"),
    (["train", "a.yaml"], "--output"),
    (["--frob"], "--frob"),
    (["info"], "FILE"),
    (["validate", "--json", "ct_cone_sparse"], "--json"),
]


@pytest.mark.parametrize(("arguments", "hint"), USAGE, ids=lambda v: " ".join(v) if v else "")
def test_a_wrong_call_is_two_and_one_line_with_a_way_out(medrecon_, arguments, hint):
    code, _, err = medrecon_(*arguments)
    assert code == UsageError.exit_code == 2
    assert is_one_sentence(err), err
    assert hint in err[0]


@pytest.mark.parametrize("command", ["run", "simulate", "validate"])
@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("schema_version: 2\n", "newer medrecon"),
        ("schema_version: 1\nnam: x\n", "did you mean name?"),
        ("a: 1\na: 2\n", "stands twice"),
        ("a: !!python/object/apply:os.system [x]\n", "tags"),
        ("", "is empty"),
        ("- a\n", "block of keys"),
        ("a: b: c\n", "not valid YAML"),
    ],
)
def test_a_wrong_protocol_is_three_before_any_data_are_read(
    medrecon_, tmp_path, command, content, hint
):
    path = tmp_path / "p.yaml"
    path.write_text(content)
    data = [] if command == "validate" else [tmp_path / "none.h5", "--output", tmp_path / "o"]
    code, _, err = medrecon_(command, path, *data)
    assert code == ProtocolError.exit_code == 3
    assert is_one_sentence(err), err
    assert hint in err[0]


def test_a_gpu_that_is_not_there_is_seven_and_no_silent_cpu(medrecon_, tmp_path):
    code, _, err = medrecon_(
        "run", "ct_cone_sparse", tmp_path / "x.h5", "-o", tmp_path / "o", "--device", "cuda:99"
    )
    assert code == ResourceError.exit_code == 7
    assert is_one_sentence(err), err
    assert "--device auto" in err[0]


NAMES = [
    "none.h5",
    "with space.h5",
    "new\nline.h5",
    "\U0001f600.h5",
    "x" * 300 + ".h5",
    "a\x1b[31m.h5",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_missing_input_is_four_whatever_its_name(medrecon_, tmp_path, name):
    for arguments in (
        ["run", "ct_cone_sparse", tmp_path / name, "-o", tmp_path / "out"],
        ["validate", "ct_cone_sparse", tmp_path / name],
        ["simulate", "ct_cone_sparse", tmp_path / name, "-o", tmp_path / "out.h5"],
        ["info", tmp_path / name],
        ["compare", tmp_path / name, tmp_path / name],
    ):
        code, _, err = medrecon_(*arguments)
        assert code == UnreadableError.exit_code == 4, (arguments, err)
        assert len(err) == 1
        assert err[0].startswith("medrecon: error: ")
        assert "\x1b" not in err[0]
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.iterdir()) == []


def test_an_argument_that_starts_with_a_dash_can_be_given_after_two(medrecon_):
    code, _, err = medrecon_("info", "--", "-scan.h5")
    assert code == 4
    assert is_one_sentence(err)


def test_a_text_file_is_four(medrecon_, tmp_path):
    path = tmp_path / "x.h5"
    path.write_text("not a scan")
    code, _, err = medrecon_("info", path)
    assert code == 4
    assert is_one_sentence(err), err


def test_simulate_does_not_replace_a_file_unasked(medrecon_, tmp_path):
    target = tmp_path / "scan.h5"
    target.write_text("precious")
    code, _, err = medrecon_("simulate", "ct_cone_sparse", tmp_path / "x.nii", "-o", target)
    assert code == OutputError.exit_code == 6
    assert is_one_sentence(err), err
    assert target.read_text() == "precious"


def test_simulate_into_a_missing_folder_is_six(medrecon_, tmp_path):
    target = tmp_path / "no" / "scan.h5"
    code, _, err = medrecon_("simulate", "ct_cone_sparse", tmp_path / "x.nii", "-o", target)
    assert code == 6
    assert is_one_sentence(err), err


def test_train_names_the_recipes_there_are_where_there_is_no_such_one(medrecon_, tmp_path):
    code, _, err = medrecon_("train", "nobody", "-o", tmp_path / "prior")
    assert code == 3
    assert "ct-axial-256" in err[0]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MedreconError("x."), 1),
        (UsageError("x."), 2),
        (ProtocolError("x."), 3),
        (UnreadableError("x."), 4),
        (InconsistentError("x."), 5),
        (OutputError("x."), 6),
        (ResourceError("x."), 7),
        (WeightsError("x."), 10),
        (MemoryError(), 7),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda v: type(v).__name__,
)
def test_every_known_failure_has_its_code_and_no_traceback(medrecon_, monkeypatch, error, code):
    def fail():
        raise error

    monkeypatch.setattr("medrecon.protocol_files.shipped_protocols", fail)
    got, out, err = medrecon_("protocols")
    assert got == code
    assert out == ""
    assert is_one_sentence(err), err


def test_an_unknown_failure_is_one_with_a_traceback_to_report(medrecon_, monkeypatch):
    def fail():
        raise KeyError("surprise")

    monkeypatch.setattr("medrecon.protocol_files.shipped_protocols", fail)
    code, _, err = medrecon_("protocols")
    assert code == 1
    assert err[0].startswith("Traceback")
    assert "internal error, please report it: KeyError" in err[-1]


def test_our_warnings_are_one_line_and_others_are_silent(medrecon_, monkeypatch):
    def warn():
        import warnings

        warnings.warn_explicit("look\nhere", UserWarning, "f.py", 1, module="medrecon.io.x")
        warnings.warn_explicit("noise", UserWarning, "f.py", 1, module="torch.x")
        return {}

    monkeypatch.setattr("medrecon.protocol_files.shipped_protocols", warn)
    assert medrecon_("protocols") == (0, "", ["medrecon: warning: look here"])


def test_what_a_reader_warns_of_is_one_line(medrecon_, tmp_path):
    kspace = np.ones((2, 16, 16), np.complex64)
    kspace[:, 8, 8] = 20
    np.save(tmp_path / "k.npy", kspace)
    code, out, err = medrecon_("validate", "mr_cartesian_r4", tmp_path / "k.npy")
    assert code == 0
    assert "fits mr_cartesian_r4" in out
    assert len(err) == 1
    assert err[0].startswith("medrecon: warning: ")
    assert "no geometry" in err[0]


def test_ctrl_c_and_terminate_have_their_codes():
    code = (
        "import os, signal, sys, time; from medrecon import cli, protocol_files\n"
        # a job started in the background inherits an ignored SIGINT
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def wait():\n"
        "    print('ready', flush=True); time.sleep(60)\n"
        "protocol_files.shipped_protocols = wait\n"
        "sys.argv = ['medrecon', 'protocols']\n"
        "cli.main()\n"
    )
    for sent, expected in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            os.kill(process.pid, sent)
            _, err = process.communicate(timeout=70)
        assert process.returncode == expected, err
        assert "Traceback" not in err


# --- info and compare ---------------------------------------------------------------------------


def test_info_describes_an_image(medrecon_, image):
    code, out, err = medrecon_("info", image("a.nii.gz"), "--json")
    assert (code, err) == (0, [])
    facts = json.loads(out)
    assert facts["type"] == "image"
    assert facts["shape"] == [12, 24, 20]
    assert facts["grid"]["spacing_mm_zyx"] == [2.0, 1.0, 1.5]


def test_info_in_words_holds_the_same(medrecon_, image):
    code, out, _ = medrecon_("info", image("a.nii.gz"))
    assert code == 0
    assert "12 x 24 x 20" in out
    assert "2.0 x 1.0 x 1.5" in out


def test_compare_tells_psnr_ssim_nrmse_and_the_range(medrecon_, image):
    code, out, err = medrecon_(
        "compare", image("a.nii", 20.0), image("b.nii"), "--json", "--data-range", "2000"
    )
    assert (code, err) == (0, [])
    metrics = json.loads(out)
    assert metrics["data_range"] == 2000
    assert metrics["psnr"] == pytest.approx(20 * np.log10(2000 / 20), abs=0.2)
    assert set(metrics["ssim_per_plane"]) == {"axial", "coronal", "sagittal"}


def test_compare_in_words_says_the_range_it_took(medrecon_, image):
    code, out, _ = medrecon_("compare", image("a.nii", 20.0), image("b.nii"))
    assert code == 0
    assert "range  1000" in out
    assert "dB" in out


def test_compare_refuses_a_range_of_nothing(medrecon_, image):
    path = image("a.nii")
    code, _, err = medrecon_("compare", path, path, "--data-range", "0")
    assert code == 2
    assert is_one_sentence(err)
