"""The guarded opener: ordinary files pass, files that reach out or promise absurdities do not."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from medrecon.errors import ResourceError, UnreadableError
from medrecon.io.hdf5 import open_hdf5, read_dataset

SECRET = b"root:x:0:0:a secret"


def read(path: Path, name: str = "data", **options: int) -> np.ndarray:
    with open_hdf5(path) as file:
        return read_dataset(file, name, **options)


def test_ordinary_compressed_values_come_back_exactly(tmp_path: Path):
    values = np.random.default_rng(0).integers(0, 999, (5, 7, 11), dtype=np.uint16)
    path = tmp_path / "ok.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "g/data", data=values, compression="gzip", shuffle=True, fletcher32=True
        )
        file.create_dataset("g/fast", data=values, compression="lzf")
        file["g/same"] = h5py.SoftLink("/g/data")
        file["g/again"] = file["g/data"]
        file["g/up"] = file["/"]  # a hard-linked circle must not hang the walk
    for name in ("g/data", "g/fast", "g/same", "g/again"):
        np.testing.assert_array_equal(read(path, name), values)


def test_external_storage_is_refused_and_never_read(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    path = tmp_path / "attack.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (len(SECRET),), "u1", external=[(str(secret), 0, len(SECRET))])
    with h5py.File(path) as file:
        assert bytes(file["data"][()]) == SECRET  # the attack works without the guard
    with pytest.raises(UnreadableError, match="external storage"):
        read(path)


def test_external_link_is_refused(tmp_path: Path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.arange(3)
    path = tmp_path / "attack.h5"
    with h5py.File(path, "w") as file:
        file["deep/data"] = h5py.ExternalLink("other.h5", "/data")
    with pytest.raises(UnreadableError, match="link to another file"):
        read(path, "deep/data")


def test_dangling_soft_link_is_refused(tmp_path: Path):
    path = tmp_path / "attack.h5"
    with h5py.File(path, "w") as file:
        file["data"] = h5py.SoftLink("/nowhere")
    with pytest.raises(UnreadableError, match="leads nowhere"):
        read(path)


def test_soft_links_in_a_circle_are_refused(tmp_path: Path):
    path = tmp_path / "attack.h5"
    with h5py.File(path, "w") as file:
        file["a"] = h5py.SoftLink("/b")
        file["b"] = h5py.SoftLink("/a")
    with pytest.raises(UnreadableError, match=r"leads nowhere|damaged"):
        read(path, "a")


def test_virtual_dataset_is_refused(tmp_path: Path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.arange(3)
    path = tmp_path / "attack.h5"
    layout = h5py.VirtualLayout((3,), "i8")
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "data", (3,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data", layout)
    with pytest.raises(UnreadableError, match="virtual dataset"):
        read(path)


def test_third_party_filter_is_refused_before_any_plugin_is_looked_for(tmp_path: Path):
    path = tmp_path / "attack.h5"
    with h5py.File(path, "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((4,))
        creation.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))  # Zstandard's number
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_INT32, space, creation)
    with pytest.raises(UnreadableError, match="32015"):
        read(path)


def test_huge_shape_without_stored_bytes_is_refused_before_allocation(tmp_path: Path):
    path = tmp_path / "attack.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (2**40,), "f4", chunks=(2**20,))
    with pytest.raises(UnreadableError, match="0 bytes are stored"):
        read(path, max_bytes=2**60)


def test_more_than_the_cap_is_a_matter_of_resources(tmp_path: Path):
    path = tmp_path / "big.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(1000, np.float32)
    assert read(path, max_bytes=4000).shape == (1000,)
    with pytest.raises(ResourceError, match="more than"):
        read(path, max_bytes=3999)


@pytest.mark.parametrize("content", [b"", b"not hdf5 at all", b"\x89HDF\r\n\x1a\n" + b"\0" * 200])
def test_other_bytes_are_unreadable(tmp_path: Path, content: bytes):
    path = tmp_path / "x.h5"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=r"x\.h5"):
        read(path)


def test_truncated_file_is_named_as_such(tmp_path: Path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(10_000)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(UnreadableError, match="truncated"):
        read(path)


def test_damaged_chunk_is_unreadable(tmp_path: Path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        data = np.random.default_rng(0).random(5000)
        file.create_dataset("data", data=data, compression="gzip", fletcher32=True)
        chunk = file["data"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 100 : chunk.byte_offset + 200] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match="damaged"):
        read(path)


def test_missing_file_folder_and_pipe_are_unreadable(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("absent.h5", ".", "pipe"):
        with pytest.raises(UnreadableError):
            read(tmp_path / name)


def test_missing_dataset_lists_what_is_there(tmp_path: Path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["other"] = np.arange(3)
        file["with\nnewline"] = 1
    with pytest.raises(UnreadableError, match=r"'other', 'with\\nnewline'"):
        read(path)


def test_file_open_for_writing_elsewhere_is_in_use(tmp_path: Path):
    path = tmp_path / "x.h5"
    code = (
        "import h5py,sys; f = h5py.File(sys.argv[1], 'w'); f['data'] = 1; f.flush();"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        writer.stdout.readline()
        with pytest.raises(UnreadableError, match="in use"):
            read(path)
        writer.stdin.close()
