"""Bad MR input, row by row of the project's table of bad inputs (its numbers are in the names).

Every case goes through the command line: its exit code, one line on standard error, no traceback,
and nothing left behind. Readers have more cases of their own in tests/io.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
import pytest

from medrecon import cli
from tests.io import test_fastmri
from tests.io.mrd_files import Scan
from tests.io.test_ismrmrd import images

UNREADABLE, INCONSISTENT, RESOURCES = 4, 5, 7
SECRET = b"ZZSECRET^CANARY"

Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def medrecon_(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process: exit code, stdout, lines of stderr."""

    def run(*arguments: Any) -> tuple[int, str, list[str]]:
        code = cli.invoke([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return run


@pytest.fixture
def refused(medrecon_: Run) -> Callable[..., str]:
    """Look at a file that cannot be used: the sentence, after checking that it is one."""

    def look(path: Path, expected: int, command: tuple[Any, ...] = ("info",)) -> str:
        before = sorted(path.parent.rglob("*"))
        code, out, err = medrecon_(*command, path)
        errors = [line for line in err if line.startswith("medrecon: error: ")]
        others = [line for line in err if not line.startswith("medrecon: warning: ")]
        assert len(errors) == 1, err
        assert others == errors, err
        assert len(errors[0]) < 500
        assert code == expected, errors[0]
        assert out == ""
        assert SECRET.decode() not in errors[0]
        assert sorted(path.parent.rglob("*")) == before
        return errors[0]

    return look


def mrd(folder: Path, **changes: Any) -> Path:
    return Scan(images(slices=2), **changes).write(folder / "scan.h5")


def change(path: Path, how: Callable[[Any], object]) -> Path:
    with h5py.File(path, "a") as file:
        how(file)
    return path


def with_header(path: Path, text: str | bytes) -> Path:
    raw = text.encode() if isinstance(text, str) else text

    def put(file: Any) -> None:
        del file["dataset/xml"]
        file["dataset"].create_dataset("xml", data=np.array([np.void(raw)]).view(f"S{len(raw)}"))

    return change(path, put)


PROGRAM = "import sys\nfrom medrecon import cli\nsys.exit(cli.invoke(sys.argv[1:]))"


def child(*arguments: Any, code: str = PROGRAM, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def is_one_error(done: subprocess.CompletedProcess[str], expected: int) -> bool:
    lines = done.stderr.splitlines()
    one = len(lines) == 1 and lines[0].startswith("medrecon: error: ")
    assert one, done.stderr
    return done.returncode == expected


# --- HDF5 ---------------------------------------------------------------------------------------


def test_row_41_text_called_h5_is_no_hdf5(tmp_path: Path, refused: Any) -> None:
    path = tmp_path / "scan.h5"
    path.write_text("readouts: 7\n")
    assert "no measurements known here" in refused(path, UNREADABLE)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_row_42_a_truncated_file_is_damaged(tmp_path: Path, refused: Any, share: float) -> None:
    path = mrd(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "truncated" in refused(path, UNREADABLE)


@pytest.mark.parametrize("name", ["dataset/data", "kspace"])
def test_row_43_external_storage_is_never_read(tmp_path: Path, refused: Any, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)

    def attack(file: Any) -> None:
        file.pop(name, None)
        file.create_dataset(name, (len(SECRET),), "u1", external=[(str(secret), 0, len(SECRET))])

    path = change(mrd(tmp_path), attack)
    with watched(secret) as was_opened:
        assert "external storage" in refused(path, UNREADABLE)
        assert not was_opened()


LINKS = {
    "to another file": h5py.ExternalLink("other.h5", "/data"),
    "to nowhere": h5py.SoftLink("/nowhere"),
    "to itself": h5py.SoftLink("/dataset/data"),
}


@pytest.mark.parametrize("case", LINKS)
def test_row_44_links_out_of_the_file_are_refused(tmp_path: Path, refused: Any, case: str) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.arange(3)

    def attack(file: Any) -> None:
        del file["dataset/data"]
        file["dataset/data"] = LINKS[case]

    assert "link" in refused(change(mrd(tmp_path), attack), UNREADABLE)


def test_row_45_virtual_datasets_are_refused(tmp_path: Path, refused: Any) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kspace"] = np.zeros((1, 2, 3, 4), np.complex64)
    layout = h5py.VirtualLayout((1, 2, 3, 4), np.complex64)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "kspace", (1, 2, 3, 4))
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_virtual_dataset("kspace", layout)
    assert "virtual dataset" in refused(tmp_path / "scan.h5", UNREADABLE)


def test_row_46_a_shape_without_bytes_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", (2**10, 2**10, 2**10, 2**7), "c8", chunks=(1, 1, 64, 64))
    four_gib = 4 * 2**30  # for the imports; the data would need a tebibyte

    def capped() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (four_gib, four_gib))

    done = child("info", path, preexec_fn=capped)
    assert is_one_error(done, UNREADABLE)
    assert "0 bytes are stored" in done.stderr


def test_row_47_no_plugin_is_loaded_from_the_path_of_the_environment(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a plugin with")
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (tmp_path / "p.c").write_text(
        "#include <stdio.h>\n__attribute__((constructor)) static void f(void) "
        f'{{ fclose(fopen("{tmp_path}/loaded", "w")); }}\n'
    )
    library = plugins / "libfilter.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "p.c"], check=True)
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((1, 1, 8, 8))
        creation.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        kind = h5py.h5t.py_create(np.dtype("c8"))
        space = h5py.h5s.create_simple((1, 2, 8, 8))
        made = h5py.h5d.create(file.id, b"kspace", kind, space, creation)
        made.write_direct_chunk((0, 0, 0, 0), bytes(512))
        made.write_direct_chunk((0, 1, 0, 0), bytes(512))
    environment = {**os.environ, "HDF5_PLUGIN_PATH": str(plugins)}
    done = child("info", path, env=environment)
    assert is_one_error(done, UNREADABLE)
    assert "32015" in done.stderr
    assert not (tmp_path / "loaded").exists()
    # the plugin works: whoever reads without asking loads it
    careless = "import h5py, sys; h5py.File(sys.argv[1])['kspace'][()]"
    subprocess.run([sys.executable, "-c", careless, path], env=environment, capture_output=True)
    assert (tmp_path / "loaded").exists()


@pytest.mark.parametrize("swmr", [False, True])
def test_row_48_a_file_that_is_being_written_is_in_use(
    tmp_path: Path, refused: Any, swmr: bool
) -> None:
    path = tmp_path / "scan.h5"
    code = (
        "import h5py, sys; f = h5py.File(sys.argv[1], 'w', libver='latest'); f['kspace'] = 1;"
        f"{'f.swmr_mode = True;' if swmr else ''} f.flush();"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        writer.stdout.readline()
        message = refused(path, UNREADABLE)
        writer.stdin.close()
    assert "in use" in message


# --- ISMRMRD ------------------------------------------------------------------------------------


def _two_groups(file: Any) -> None:
    file.move("dataset", "first")
    file.copy("first", "second")


def test_row_49_groups_are_listed_where_the_scan_is_not_found(tmp_path: Path, refused: Any) -> None:
    message = refused(change(mrd(tmp_path), _two_groups), UNREADABLE)
    assert "'first'" in message
    assert "'second'" in message
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["images/data"] = np.zeros(3)
    assert "'images'" in refused(tmp_path / "scan.h5", UNREADABLE)


def test_row_50_a_header_that_is_no_xml_names_the_line(tmp_path: Path, refused: Any) -> None:
    path = with_header(mrd(tmp_path), "<ismrmrdHeader>\n<encoding>\n</ismrmrdHeader>")
    message = refused(path, UNREADABLE)
    assert "not valid XML" in message
    assert "line 3" in message


def test_row_51_a_header_without_encoding_is_incomplete(tmp_path: Path, refused: Any) -> None:
    text = (
        '<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions>'
        "<H1resonanceFrequency_Hz>1</H1resonanceFrequency_Hz></experimentalConditions>"
        "</ismrmrdHeader>"
    )
    assert "no encoding" in refused(with_header(mrd(tmp_path), text), UNREADABLE)


def _bomb() -> str:
    lines = ['<!ENTITY a0 "aaaaaaaaaa">']
    lines += [f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12)]
    return f'<?xml version="1.0"?><!DOCTYPE x [{"".join(lines)}]><x>&a11;</x>'


def _reach_out(secret: Path) -> str:
    entity = f'<!ENTITY b SYSTEM "file://{secret}">'
    return f'<?xml version="1.0"?><!DOCTYPE x [{entity}]><x>&b;</x>'


def test_row_52_entities_are_refused_before_they_grow_or_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    paths = []
    for i, attack in enumerate((_bomb(), _reach_out(secret))):
        for encoding in ("utf-8", "utf-16"):
            text = attack.encode(encoding)
            folder = tmp_path / f"{i}-{encoding}"
            folder.mkdir()
            paths.append(with_header(mrd(folder), text))
            fast = folder / "fastmri.h5"
            paths.append(test_fastmri.write(fast, ismrmrd_header=np.void(text)))
    # imports cost what they cost; all the looks together may take two seconds of the processor
    code = (
        "import resource, sys, medrecon.info, medrecon.io.ismrmrd, medrecon.io.fastmri\n"
        "from medrecon import cli\n"
        "used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 2, int(used) + 2))\n"
        "codes = {cli.invoke(['info', path]) for path in sys.argv[1:]}\n"
        f"sys.exit(codes != {{{UNREADABLE}}})\n"
    )
    with watched(secret) as was_opened:
        done = child(*paths, code=code)
        assert not was_opened()
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(paths)
    assert all("header" in line for line in lines)
    assert SECRET.decode() not in done.stderr


def _matrix(**sizes: int) -> Callable[[Any], None]:
    def put(header: Any) -> None:
        for name, size in sizes.items():
            setattr(header.encoding[0].encodedSpace.matrixSize, name, size)

    return put


@pytest.mark.parametrize("sizes", [{"x": 0}, {"y": 0}, {"x": 10**9}, {"y": 65535, "z": 65535}])
def test_row_53_an_impossible_matrix_is_refused(
    tmp_path: Path, refused: Any, sizes: dict[str, int]
) -> None:
    assert "matrix" in refused(mrd(tmp_path, on_header=_matrix(**sizes)), INCONSISTENT)


def test_row_54_a_line_beyond_the_limits_is_refused(tmp_path: Path, refused: Any) -> None:
    def beyond(acquisition: Any) -> None:
        if acquisition.idx.kspace_encode_step_1 == 11:
            acquisition.idx.kspace_encode_step_1 = 700

    message = refused(mrd(tmp_path, on_acquisition=beyond), INCONSISTENT)
    assert "700" in message


@pytest.mark.parametrize("shape", [(2, 20), (3, 14)])
def test_row_55_readouts_of_other_coils_or_lengths_are_refused(
    tmp_path: Path, refused: Any, shape: tuple[int, int]
) -> None:
    odd = ismrmrd.Acquisition.from_array(np.ones(shape, np.complex64))
    odd.center_sample = shape[1] // 2 + 7 * (shape[1] == 14)
    odd.idx.kspace_encode_step_1 = 3
    odd.position[:] = Scan(images(slices=2)).position(1)
    directions = Scan(images(slices=2)).directions
    odd.slice_dir[:], odd.phase_dir[:], odd.read_dir[:] = directions
    refused(mrd(tmp_path, extra=[odd]), INCONSISTENT)


def test_row_56_noise_alone_is_no_imaging_data(tmp_path: Path, refused: Any) -> None:
    def noise(acquisition: Any) -> None:
        acquisition.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)

    path = mrd(tmp_path, on_acquisition=noise)
    assert "no imaging data" in refused(path, INCONSISTENT)


# --- fastMRI ------------------------------------------------------------------------------------

FASTMRI = {
    "real": ({"kspace": test_fastmri.samples().real}, "complex"),
    "of two axes": ({"kspace": test_fastmri.samples()[0, 0]}, "rows, columns"),
    "with another mask": ({"mask": np.ones(7, bool)}, "mask"),
}


@pytest.mark.parametrize("case", FASTMRI)
def test_row_57_fastmri_files_that_contradict_themselves(
    tmp_path: Path, refused: Any, case: str
) -> None:
    members, word = FASTMRI[case]
    path = test_fastmri.write(tmp_path / "scan.h5", **{"kspace": test_fastmri.samples(), **members})
    assert word in refused(path, INCONSISTENT)


def test_row_58_a_fastmri_test_file_without_target_is_fine(tmp_path: Path, medrecon_: Run) -> None:
    lines = np.arange(test_fastmri.COLUMNS) % 3 == 0
    lines[9:21] = True
    path = test_fastmri.write(tmp_path / "scan.h5", test_fastmri.samples() * lines, mask=lines)
    code, out, err = medrecon_("info", path)
    assert code == 0
    assert [line for line in err if "where the slices are" not in line] == []
    assert "has_reference         no" in out
    code, _, err = medrecon_(*run_of(tmp_path, *CLASSICAL), path)
    assert code == 0, err
    assert "metrics" not in json.loads((tmp_path / "out" / "run.json").read_text())


# --- what was measured --------------------------------------------------------------------------


def _dead(*coils: int, of: int) -> np.ndarray:
    found = images(slices=2, coils=of)
    found[:, list(coils)] = 0
    return found


def test_row_61_a_dead_coil_is_left_out_if_it_is_one_of_many(
    tmp_path: Path, medrecon_: Run, refused: Any
) -> None:
    path = Scan(_dead(4, of=12)).write(tmp_path / "scan.h5")
    code, out, err = medrecon_("info", path)
    assert code == 0
    assert len(err) == 1
    assert "coil 4 is zero throughout and is left out" in err[0]
    assert "2 x 11 x 12 x 10" in out
    path.unlink()
    path = Scan(_dead(4, 5, of=12)).write(tmp_path / "scan.h5")
    assert "2 of 12 coils are zero" in refused(path, INCONSISTENT)


def test_row_62_nothing_but_zeros_is_no_scan(tmp_path: Path, refused: Any) -> None:
    path = Scan(0 * images(slices=2)).write(tmp_path / "scan.h5")
    assert "all k-space samples are zero" in refused(path, INCONSISTENT)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_row_63_a_readout_that_is_not_finite_is_located(
    tmp_path: Path, refused: Any, value: float
) -> None:
    def spoil(acquisition: Any) -> None:
        if acquisition.idx.kspace_encode_step_1 == 7 and acquisition.idx.slice == 1:
            acquisition.data[1, 3] = value

    message = refused(mrd(tmp_path, on_acquisition=spoil), INCONSISTENT)
    assert "slice 1" in message
    assert "line 7" in message


def test_row_63_a_spike_is_told(tmp_path: Path, medrecon_: Run) -> None:
    def spike(acquisition: Any) -> None:
        if acquisition.idx.kspace_encode_step_1 == 1:
            acquisition.data[0, 3] = 1e30

    code, _, err = medrecon_("info", mrd(tmp_path, on_acquisition=spike, oversampling=1))
    assert code == 0
    assert any("spike" in line for line in err)


def run_of(folder: Path, *settings: str) -> tuple[Any, ...]:
    """Reconstruct classically; the input comes last."""
    chosen = [text for setting in settings for text in ("--set", setting)]
    return ("run", "mr_cartesian_r4", "--quiet", "-o", folder / "out", *chosen)


CLASSICAL = ("prior=null", "sampler=null", 'baselines=[{"method":"adjoint"}]')


def test_row_64_coil_maps_without_calibration_lines_are_refused(
    tmp_path: Path, refused: Any
) -> None:
    whole = images(slices=1, coils=3, y=32, x=24)
    path = Scan(whole, lines=list(range(0, 32, 3))).write(tmp_path / "scan.h5")
    message = refused(path, INCONSISTENT, run_of(tmp_path, *CLASSICAL))
    assert "calibration" in message
    assert "maps" in message


def test_row_65_a_singular_calibration_still_gives_the_image(
    tmp_path: Path, medrecon_: Run
) -> None:
    """Coils that are copies of one make the calibration matrix singular; one signal is left."""
    whole = images(slices=1, coils=1, y=32, x=24)
    path = Scan(np.concatenate([whole, whole, whole], axis=1)).write(tmp_path / "scan.h5")
    settings = ("acquisition.acceleration=2", "acquisition.calibration_lines=12")
    code, _, err = medrecon_(*run_of(tmp_path, *CLASSICAL, *settings), path)
    assert (code, err) == (0, [])
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert "condition_number" in record["coil_maps"]
    assert record["metrics"]["adjoint"]["nrmse"] < 0.3


@pytest.mark.parametrize("case", ["copies", "constant", "zero"])
def test_row_66_a_singular_noise_scan_is_refused(tmp_path: Path, refused: Any, case: str) -> None:
    one = np.random.default_rng(0).standard_normal((4, 1, 64, 2)) @ [1, 1j]
    noise = {
        "copies": np.concatenate([one, one, one], axis=1),
        "constant": np.ones((4, 3, 64), complex),
        "zero": np.zeros((4, 3, 64), complex),
    }[case]
    assert "noise" in refused(mrd(tmp_path, noise=noise), INCONSISTENT)


def test_row_67_masks_are_neither_empty_nor_of_another_size_nor_without_effect(
    tmp_path: Path, medrecon_: Run, refused: Any
) -> None:
    columns = test_fastmri.COLUMNS
    path = tmp_path / "scan.h5"
    for mask in (np.zeros(columns), np.ones(columns + 1)):
        test_fastmri.write(path, mask=mask)
        assert "mask" in refused(path, INCONSISTENT)
    test_fastmri.write(path, mask=np.ones(columns))
    code, _, err = medrecon_("info", path)
    assert code == 0
    assert any("leaves nothing out" in line for line in err)


def test_row_68_an_acceleration_that_was_not_measured_is_told_with_both_numbers(
    tmp_path: Path, medrecon_: Run
) -> None:
    def claim(header: Any) -> None:
        header.encoding[0].parallelImaging = ismrmrd.xsd.parallelImagingType(
            accelerationFactor=ismrmrd.xsd.accelerationFactorType(
                kspace_encoding_step_1=4, kspace_encoding_step_2=1
            )
        )

    path = mrd(tmp_path, on_header=claim, lines=list(range(0, 12, 2)))
    code, out, err = medrecon_("info", path)
    assert code == 0
    assert len(err) == 1
    assert "acceleration of 4" in err[0]
    assert "2" in err[0].partition("acceleration of 4")[2]
    assert "every 2nd" in out


# --- other arrays -------------------------------------------------------------------------------


def test_the_same_holds_for_arrays_with_text_beside_them(tmp_path: Path, refused: Any) -> None:
    folder = tmp_path / "npy"
    folder.mkdir()
    path = folder / "scan.npy"
    np.save(path, np.full((2, 8, 6), np.nan + 0j, np.complex64))
    assert "NaN" in refused(path, INCONSISTENT)
    np.save(path, np.ones((2, 8, 6), np.complex64))
    (folder / "scan.yaml").write_text("fov: [1, 2, 3]")
    assert "did you mean fov_mm?" in refused(path, INCONSISTENT)
    (folder / "scan.yaml").write_text("fov_mm: *x")
    refused(path, UNREADABLE)


def test_the_same_holds_for_bart_files(tmp_path: Path, refused: Any) -> None:
    path = tmp_path / "scan.cfl"
    path.write_bytes(bytes(80))
    assert ".hdr" in refused(path, UNREADABLE)
    path.with_suffix(".hdr").write_text("# Dimensions\n5 2 1 1\n")
    assert "zero" in refused(path, INCONSISTENT)
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{'9' * 11} {'9' * 11}\n")
    refused(path, UNREADABLE)


class _Watched:
    """Counts openings of one file, by the kernel's own notice."""

    _OPEN = 0x20

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)
        watch = self._libc.inotify_add_watch(self._descriptor, bytes(path), self._OPEN)
        assert min(self._descriptor, watch) >= 0

    def __enter__(self) -> Callable[[], bool]:
        return self._was_opened

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def _was_opened(self) -> bool:
        try:
            return len(os.read(self._descriptor, 4096)) >= struct.calcsize("iIII")
        except BlockingIOError:
            return False


def watched(path: Path) -> _Watched:
    if not sys.platform.startswith("linux"):
        pytest.skip("files are watched by Linux's inotify")
    return _Watched(path)


def test_the_watch_sees_an_opening(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    with watched(tmp_path / "secret") as was_opened:
        assert not was_opened()
        (tmp_path / "secret").read_bytes()
        assert was_opened()
