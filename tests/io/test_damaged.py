"""Random damage in any file is a known failure, or does no harm; nothing else is ever raised."""

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medrecon.errors import MedreconError
from medrecon.io.nifti import write_nifti
from medrecon.io.read import read_image, read_studies, read_study
from tests.io import test_cfl, test_dicom, test_htc
from tests.io.volumes import random_volume

# HDF5 is left out: its C library can hang on a damaged heap, which no caller can catch.


def nifti(path: Path) -> Path:
    write_nifti(random_volume(1), path)
    return path


def dicom(path: Path) -> Path:
    file, *_ = test_dicom.scanner_series(path.with_suffix(".d"), slices=1)
    return file


def array(path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.save(path, (rng.standard_normal((2, 3, 3, 2)) @ [1, 1j]).astype(np.complex64))
    return path


def described(path: Path) -> Path:
    array(path.with_suffix(".npy"))
    path.write_text("spacing_mm: [3, 1, 1]\norigin_mm: [0, 0, 0]\nnoise_std: 0.5\n")
    return path


def bart(path: Path) -> Path:
    test_cfl.write(path.with_suffix(""), test_cfl.noise(3, 3, 1, 2))
    return path


def beside(path: Path) -> object:
    return read_studies(path.with_suffix(".npy"))


FORMATS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "v.nii": (nifti, read_image),
    "v.nii.gz": (nifti, read_image),
    "c.dcm": (dicom, read_image),
    "h.mat": (test_htc.write, read_study),
    "k.npy": (array, read_studies),
    "k.yaml": (described, beside),
    "k.hdr": (bart, read_studies),
    "k.cfl": (bart, read_studies),
}


def damaged(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 8])):
        at = generator.randrange(len(changed))
        word = generator.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"])
        changed[at : at + 4] = generator.choice([word, generator.randbytes(1)])
    end = generator.randrange(len(changed)) if generator.random() < 0.1 else len(changed)
    return bytes(changed[:end])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("seed", range(3))
def test_damage_is_answered_by_one_known_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, seed: int
):
    make, read = FORMATS[name]
    damaged_often(make(tmp_path / name), read, capfd, 150, seed)


def damaged_often(
    path: Path,
    read: Callable[[Path], object],
    capfd: pytest.CaptureFixture[str],
    times: int,
    seed: int = 0,
) -> None:
    """Damage a file again and again and read it: known failures of one line, and silence."""
    content = path.read_bytes()
    generator = random.Random(seed)
    messages = []
    for _ in range(times):
        path.write_bytes(damaged(content, generator))
        try:
            with warnings.catch_warnings(action="ignore"):
                read(path)
        except MedreconError as error:
            messages.append(str(error))
    assert len(messages) > times / 10, "the damage must be felt"
    assert not [m for m in messages if "\n" in m or "CANARY" in m.upper()]
    assert capfd.readouterr().err == ""
