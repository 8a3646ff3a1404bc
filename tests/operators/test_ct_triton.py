"""The GPU's kernels compute what the CPU's do, and their transposes are exact.

Without a GPU Triton's interpreter runs them, and NVIDIA's assembler compiles them; both in a
process of their own, because Triton reads the environment once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medrecon.analytic.dispatch import analytic
from medrecon.errors import InconsistentError, ResourceError
from medrecon.geometry.ct import ParallelBeam
from medrecon.grid import Grid
from medrecon.operators.ct import projector
from medrecon.operators.kernels import engine
from tests.contracts import EXACT, SINGLE
from tests.operators.triton_cases import ANALYTIC, BATTERY, GRID, SCANS, measurements

ROOT = Path(__file__).parents[2]
CLOSE = 1e-5  # single precision, beside the CPU's kernels
FIXED = 1e-8  # positions are rounded to 2^-32 voxels

needs_triton = pytest.mark.skipif(not engine.has_triton(), reason="Triton is not installed")


def ask(what: str) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    if what == "interpret":
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "tests.operators.triton_cases", what]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    return ask("interpret")


@needs_triton
@pytest.mark.parametrize("scan", SCANS)
def test_kernels_agree_with_the_cpu_and_are_matched(scan: str, interpreted: dict[str, Any]) -> None:
    errors = interpreted["errors"][scan]
    for direction in ("forward", "transpose"):
        assert errors[f"{direction} float32"] <= CLOSE
        assert errors[f"{direction} float64"] <= FIXED
    for with_what in ("dot", "dot with Ax"):
        assert errors[f"{with_what} float32"] <= SINGLE
        assert errors[f"{with_what} float64"] <= EXACT


@needs_triton
@pytest.mark.parametrize("scan", ANALYTIC)
def test_analytic_reconstructions_agree_with_the_cpus(
    scan: str, interpreted: dict[str, Any]
) -> None:
    errors = interpreted["analytic"][scan]
    assert errors["float32"] <= CLOSE
    assert errors["float64"] <= FIXED


@pytest.mark.parametrize("scan", ANALYTIC)
def test_analytic_reconstructions_never_leave_the_device_of_their_data(
    scan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Torch's device without memory: whoever asks for the numbers fails.
    started = []

    def twin(kernel: engine.Kernel, device: torch.device) -> engine.Kernel:
        def nothing(source: torch.Tensor, *_: object) -> None:
            started.append((kernel.__name__, source.device.type))

        return nothing

    monkeypatch.setattr(engine, "twin", twin)
    geometry = ANALYTIC[scan]
    with engine.using("triton"):
        volume = analytic(measurements(geometry).to("meta"), geometry, GRID)
    assert volume.device.type == "meta"
    assert [device for _, device in started] == ["meta"]


@needs_triton
@pytest.mark.parametrize("scan", BATTERY)
def test_projectors_of_the_gpu_keep_the_contract(scan: str, interpreted: dict[str, Any]) -> None:
    verdicts = interpreted["battery"][scan]
    assert len(verdicts) >= 7
    assert not [said for said in verdicts if said]


@needs_triton
def test_every_kernel_compiles_for_a_gpu_without_spilling() -> None:
    verdicts = ask("compile")
    assert len(verdicts) >= 15
    assert not {kernel: said for kernel, said in verdicts.items() if said}


def scan() -> tuple[Grid, ParallelBeam]:
    beam = ParallelBeam(angles=(0.0, 0.4), columns=6, column_spacing=1.0)
    return Grid.centred((2, 4, 4), (1.0, 1.0, 1.0)), beam


@needs_triton
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter is on")
def test_without_a_gpu_or_the_interpreter_the_backend_says_so() -> None:
    with pytest.raises(ResourceError, match="needs a GPU"):
        projector(*scan(), "triton")(torch.ones(2, 4, 4))


def test_without_triton_the_backend_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "has_triton", lambda: False)
    with pytest.raises(ResourceError, match="not installed"):
        projector(*scan(), "triton")(torch.ones(2, 4, 4))


def test_integers_are_refused_before_anything_is_compiled() -> None:
    with (
        engine.using("triton"),
        pytest.raises(InconsistentError, match="float32 or float64"),
    ):
        engine.run(lambda *_: None, torch.ones(2, dtype=torch.int64), shape=(2,))


def test_the_native_backend_never_loads_triton() -> None:
    code = (
        "import sys, torch; from tests.operators.test_ct_triton import projector, scan;"
        "projector(*scan())(torch.ones(2, 4, 4)); print('triton' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_what_is_worked_out_of_a_table_is_forgotten_with_it() -> None:
    table = np.arange(3.0)
    calls = []

    def make() -> int:
        calls.append(1)
        return 7

    assert engine.remembered(table, "seven", make) == 7
    assert engine.remembered(table, "seven", make) == 7
    assert len(calls) == 1
    before = len(engine._REMEMBERED)
    del table
    assert len(engine._REMEMBERED) == before - 1


def test_the_choice_of_a_compiler_ends_with_its_context() -> None:
    x = torch.ones(1)
    assert engine.engine(x) == "numba"
    with engine.using("triton"):
        assert engine.engine(x) == "triton"
    assert engine.engine(x) == "numba"
