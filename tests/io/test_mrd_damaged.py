"""Wrong numbers in a sound HDF5 file are a known failure of one line, or do no harm."""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from medrecon.errors import MedreconError
from medrecon.io.ismrmrd import read_ismrmrd
from tests.io.mrd_files import Scan, write_file
from tests.io.test_mrd_scans import EPI_X, EPI_Y, echo_train, epi_header, object_of, spoke_file

Table = NDArray[Any]
TIMES = 60


def slices(path: Path) -> Path:
    return Scan(object_of(3, 2, 8, 6)).write(path)


def spokes(path: Path) -> Path:
    return spoke_file(path, 1 / 16)


def echoes(path: Path) -> Path:
    truth = np.zeros((2, EPI_Y, EPI_X), dtype=complex)
    truth[:, :, EPI_X // 4 : -EPI_X // 4] = object_of(2, EPI_Y, EPI_X // 2)
    return write_file(path, epi_header(), echo_train(truth, phase=0.5))


def change_a_counter(xml: str, table: Table, generator: random.Random) -> str:
    column = table["head"][generator.choice(table["head"].dtype.names or ())]
    if column.dtype.names:
        column = column[generator.choice(column.dtype.names)]
    values: list[float] = [0, 1, 2, 7, 255, 65535]
    if column.dtype.kind == "f":
        values = [0, -1, np.nan, np.inf, 1e30]
    rows = generator.choice([slice(None), slice(0, len(table) // 2), slice(1, 2)])
    column[rows] = generator.choice(values)
    return xml


def change_the_header(xml: str, table: Table, generator: random.Random) -> str:
    number = generator.choice(list(re.finditer(r">([-0-9.]+)<", xml)))
    words = ["0", "-1", "1", "nan", "inf", "1e9", "99999", "0.001", "x", ""]
    return xml[: number.start(1)] + generator.choice(words) + xml[number.end(1) :]


def change_samples(xml: str, table: Table, generator: random.Random) -> str:
    row = generator.randrange(len(table))
    table["data"][row][generator.randrange(8)] = generator.choice([np.nan, np.inf, 1e38])
    return xml


def cut_a_readout(xml: str, table: Table, generator: random.Random) -> str:
    row = generator.randrange(len(table))
    for name in ("data", "traj"):
        length = len(table[name][row])
        table[name][row] = table[name][row][: generator.randrange(length + 1)]
    return xml


CHANGES: list[Callable[[str, Table, random.Random], str]] = [
    change_a_counter,
    change_the_header,
    change_samples,
    cut_a_readout,
]


@pytest.mark.parametrize("make", [slices, spokes, echoes])
def test_wrong_numbers_are_answered_by_one_known_sentence(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    generator, path = random.Random(make.__name__), tmp_path / "changed.h5"
    messages: list[str] = []
    with h5py.File(make(tmp_path / "scan.h5")) as file:
        sound, rows = file["dataset/xml"][0].decode(), file["dataset/data"][()]
    for _ in range(TIMES):
        table = rows.copy()
        for name in ("data", "traj"):
            for row in range(len(table)):
                table[name][row] = rows[name][row].copy()
        xml = generator.choice(CHANGES)(sound, table, generator)
        with h5py.File(path, "w") as file:
            text = np.array([xml.encode()], dtype=object)
            file.create_dataset("dataset/xml", data=text, dtype=h5py.string_dtype())
            file.create_dataset("dataset/data", data=table)
        try:
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                read_ismrmrd(path)
        except MedreconError as error:
            messages.append(str(error))
    assert TIMES / 10 < len(messages) < TIMES
    assert not [m for m in messages if "\n" in m or str(path) not in m]
