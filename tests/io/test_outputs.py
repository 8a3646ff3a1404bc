"""Outputs appear whole or not at all."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from medrecon.errors import OutputError, UnreadableError
from medrecon.io.outputs import MARKER, OutputFolder, whole_file, write_json


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def make(target: Path, content: str = "1", **options: bool) -> None:
    with OutputFolder(target, **options) as part:
        (part / "sub").mkdir()
        (part / "sub" / "a.txt").write_text(content)


def test_folder_appears_at_the_end_with_everything_and_nothing_beside_it(tmp_path: Path):
    target = tmp_path / "out"
    with OutputFolder(target) as part:
        (part / "a.txt").write_text("a")
        assert not target.exists()
    assert names(target) == [MARKER, "a.txt"]
    assert names(tmp_path) == ["out"]


def test_an_empty_folder_is_filled(tmp_path: Path):
    (tmp_path / "out").mkdir()
    make(tmp_path / "out")
    assert (tmp_path / "out" / "sub" / "a.txt").read_text() == "1"


def test_an_exception_leaves_nothing_and_passes_through(tmp_path: Path):
    def fail() -> None:
        with OutputFolder(tmp_path / "out") as part:
            (part / "a.txt").write_text("a")
            raise UnreadableError("x")

    with pytest.raises(UnreadableError):
        fail()
    assert names(tmp_path) == []


def test_a_full_folder_is_refused_unless_overwritten(tmp_path: Path):
    target = tmp_path / "out"
    make(target, "old")
    with pytest.raises(OutputError, match="not empty"):
        make(target, "new")
    assert (target / "sub" / "a.txt").read_text() == "old"
    make(target, "new", overwrite=True)
    assert (target / "sub" / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_a_failed_overwrite_keeps_the_old(tmp_path: Path):
    target = tmp_path / "out"
    make(target, "old")
    with pytest.raises(RuntimeError), OutputFolder(target, overwrite=True):
        raise RuntimeError
    assert (target / "sub" / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_folders_of_others_are_never_overwritten(tmp_path: Path):
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "chapter1.tex").write_text("years of work")
    with pytest.raises(OutputError, match="not written by medrecon"):
        make(target, overwrite=True)
    assert names(target) == ["chapter1.tex"]


def test_impossible_targets_are_refused_before_any_work(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    targets = {"file": "is a file", "absent/out": "does not exist", "link": "is a link"}
    for target, reason in targets.items():
        with pytest.raises(OutputError, match=reason):
            OutputFolder(tmp_path / target).__enter__()
    with pytest.raises(OutputError, match="MiB left"):
        OutputFolder(tmp_path / "out", needed_bytes=2**62).__enter__()
    assert names(tmp_path) == ["file", "link"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_parent_is_refused_before_any_work(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="read-only"):
        OutputFolder(tmp_path / "out").__enter__()
    tmp_path.chmod(0o700)


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(OutputError, match="disk is full"), OutputFolder(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OutputError, match="disk is full"), whole_file(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_an_input_error_inside_is_not_taken_for_an_output_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError), OutputFolder(tmp_path / "out"):
        (tmp_path / "input.h5").read_bytes()


def test_a_folder_made_meanwhile_is_kept(tmp_path: Path):
    target = tmp_path / "out"
    with pytest.raises(OutputError, match="meanwhile"), OutputFolder(target):
        make(target, "first")
    assert (target / "sub" / "a.txt").read_text() == "first"
    assert names(tmp_path) == ["out"]


def test_a_killed_run_leaves_no_final_folder(tmp_path: Path):
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from medrecon.io.outputs import OutputFolder\n"
        "with OutputFolder(Path(sys.argv[1])) as part:\n"
        "    (part / 'a.txt').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()


def test_json_is_strict_and_whole(tmp_path: Path):
    path = tmp_path / "run.json"
    write_json(path, {"seed": 7, "name": "Köln"})
    assert json.loads(path.read_text("utf-8")) == {"seed": 7, "name": "Köln"}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"psnr": float("nan")})
    assert json.loads(path.read_text("utf-8"))["seed"] == 7
    with pytest.raises(OutputError, match="is a folder"):
        write_json(tmp_path, {})
    assert names(tmp_path) == ["run.json"]
