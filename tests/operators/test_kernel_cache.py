"""Kernels on disk do not outlive a change of any file they are made of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from medrecon.operators.kernels import footprint, matrix, stack
from medrecon.operators.kernels.compile import sources


@pytest.mark.parametrize("kernel", [stack.forward, matrix.multiply, footprint.prefix_sums])
def test_a_kernel_on_disk_is_stamped_with_every_file_of_kernels(kernel: Any) -> None:
    stamp = kernel._cache._cache_file._source_stamp
    assert stamp[1] == sources()
    assert {"weights.py", "simd.py", "lanes.py"} <= {name for name, _, _ in stamp[1]}


def test_the_stamp_changes_with_any_file(tmp_path: Path) -> None:
    for name in ("a.py", "b.py", "notes.txt"):
        (tmp_path / name).write_text("x = 1\n")
    before = sources(tmp_path)
    os.utime(tmp_path / "notes.txt", ns=(1, 1))
    assert sources(tmp_path) == before
    os.utime(tmp_path / "b.py", ns=(1, 1))
    assert sources(tmp_path) != before
    (tmp_path / "c.py").write_text("")
    assert [name for name, _, _ in sources(tmp_path)] == ["a.py", "b.py", "c.py"]
