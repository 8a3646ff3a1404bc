"""The NUFFT against direct sums, the Cartesian transform, and the shared battery."""

from __future__ import annotations

import pickle
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import finufft
import numpy as np
import pytest
import torch

from medrecon.arrays import Space
from medrecon.errors import InconsistentError, ResourceError
from medrecon.operators import nufft_plans
from medrecon.operators.fourier import Fourier
from medrecon.operators.nufft import NUFFT
from tests.contracts import CHECKS, Check, distance, name, random
from tests.operators.trajectories import ndft, scattered

SHAPES = [(8, 6), (7, 5), (6, 9), (1, 4), (4, 6, 8), (5, 3, 7), (2, 1, 3)]


def nufft(shape: tuple[int, ...], *leading: int) -> NUFFT:
    return NUFFT(Space((*leading, *shape), complex=True), scattered(len(shape)))


OPERATORS = {
    "2d even": nufft((8, 6), 3),
    "2d odd": nufft((7, 5)),
    "2d line": nufft((1, 4), 2),
    "3d even": nufft((4, 6, 8)),
    "3d odd": nufft((5, 3, 7), 2, 1),
    "no shots": NUFFT(Space((2, 6, 7), complex=True), scattered(2)[0]),
}


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())
def test_contract(operator: NUFFT, check: Check) -> None:
    check(operator)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_equals_the_direct_sum(shape: tuple[int, ...]) -> None:
    operator = nufft(shape, 2)
    matrix = ndft(shape, operator.trajectory)
    x, y = random(operator.domain), random(operator.codomain, seed=1)
    forward = (x.reshape(2, -1) @ matrix.T).reshape(y.shape)
    backward = (y.reshape(2, -1) @ matrix.conj()).reshape(x.shape)
    assert distance(operator(x), forward) < 1e-11
    assert distance(operator.adjoint(y), backward) < 1e-11
    single = torch.complex64
    assert distance(operator(x.to(single)).to(x.dtype), forward) < 3e-6
    assert distance(operator.adjoint(y.to(single)).to(x.dtype), backward) < 3e-6


def test_single_precision_is_exact_to_1e_5_on_a_large_grid() -> None:
    shape, generator = (192, 255), np.random.default_rng(0)
    positions = generator.uniform(-0.5, 0.5, (1, 300, 2)) * shape
    operator = NUFFT(Space(shape, complex=True), positions)
    x = random(operator.domain, precision=torch.float32)
    y = random(operator.codomain, precision=torch.float32)
    matrix = ndft(shape, positions)
    assert distance(operator(x).flatten(), matrix @ x.flatten().to(matrix)) < 1e-5
    assert distance(operator.adjoint(y).flatten(), matrix.mH @ y.flatten().to(matrix)) < 1e-5


@pytest.mark.parametrize("shape", [(8, 6), (7, 5), (4, 3, 6)], ids=str)
def test_on_integer_positions_it_is_the_centred_fourier_transform(shape: tuple[int, ...]) -> None:
    axes = [np.arange(n, dtype=float) - n // 2 for n in shape]
    positions = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    space = Space(shape, complex=True)
    x = random(space)
    expected = Fourier(space, axes=len(shape))(x)
    assert distance(NUFFT(space, positions)(x), expected) < 1e-11
    aliases = positions + 3 * np.array(shape)
    assert distance(NUFFT(space, torch.from_numpy(aliases))(x), expected) < 1e-11


def test_a_trajectory_may_not_be_wrong() -> None:
    space = Space((4, 6), complex=True)
    for positions in (np.zeros((3, 4)), np.zeros((3, 1)), np.zeros(2), np.zeros((0, 2))):
        with pytest.raises(InconsistentError, match="shape"):
            NUFFT(space, positions)
    with pytest.raises(InconsistentError, match="NaN"):
        NUFFT(space, np.array([[0.0, np.nan]]))
    with pytest.raises(InconsistentError, match="complex space"):
        NUFFT(Space((4, 6)), scattered(2))
    with pytest.raises(InconsistentError, match="complex space"):
        NUFFT(space, scattered(3))


def test_later_changes_of_the_positions_do_not_reach_it() -> None:
    positions = scattered(2)
    operator = NUFFT(Space((6, 6), complex=True), positions)
    x = random(operator.domain)
    before = operator(x)
    positions += 1
    assert torch.equal(pickle.loads(pickle.dumps(operator))(x), before)


def test_plans_are_made_once_and_released() -> None:
    operator = nufft((6, 7), 2)
    x = random(operator.domain)
    assert len(operator.plans) == 0
    operator.adjoint(operator(x))
    operator(random(operator.domain, 3))
    assert len(operator.plans) == 1
    operator(x.to(torch.complex64))
    assert len(operator.plans) == 2
    assert len(pickle.loads(pickle.dumps(operator)).plans) == 0
    before = operator(x)
    operator.plans.release()
    assert len(operator.plans) == 0
    assert torch.equal(operator(x), before)


def test_threads_share_a_plan_and_change_no_bit() -> None:
    operator = nufft((40, 33), 4)
    x, y = random(operator.domain), random(operator.codomain)
    expected = operator(x), operator.adjoint(y)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with ThreadPoolExecutor(4) as pool:
            forward = list(pool.map(operator, [x] * 6))
            backward = list(pool.map(operator.adjoint, [y] * 6))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, expected[0]) for result in forward)
    assert all(torch.equal(result, expected[1]) for result in backward)


def test_a_grid_beyond_memory_is_one_sentence() -> None:
    huge = NUFFT(Space((10**6, 10**6), complex=True), scattered(2))
    with pytest.raises(ResourceError, match="1000000 x 1000000"):
        nufft_plans.CpuPlan((10**6, 10**6), huge.plans.points, torch.complex64)


class CufinufftPlan:
    """cufinufft's plan as its documentation has it, working in memory of the CPU."""

    made: list[CufinufftPlan] = []

    def __init__(
        self,
        nufft_type: int,
        n_modes: tuple[int, ...],
        n_trans: int = 1,
        eps: float = 1e-6,
        isign: int | None = None,
        dtype: str = "complex64",
        *,
        gpu_device_id: int = 0,
        gpu_stream: int = 0,
    ) -> None:
        self.type, self.shape, self.transforms = nufft_type, n_modes, n_trans
        self.dtype, self.device, self.stream = dtype, gpu_device_id, gpu_stream
        self.executions = 0
        self.plan = finufft.Plan(
            nufft_type, n_modes, n_trans, eps, isign, dtype, nthreads=1, upsampfac=2.0
        )
        CufinufftPlan.made.append(self)

    def setpts(self, *points: torch.Tensor) -> None:
        assert len(points) == len(self.shape)
        real = torch.float32 if self.dtype == "complex64" else torch.float64
        assert all(p.dtype == real and p.is_contiguous() and p.ndim == 1 for p in points)
        self.plan.setpts(*(p.numpy() for p in points))

    def execute(self, data: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        for tensor in (data, out):  # the library reads raw addresses
            assert tensor.is_contiguous()
            assert not tensor.is_conj()
            assert str(tensor.dtype) == f"torch.{self.dtype}"
            assert not tensor.requires_grad
            assert tensor.shape[0] == self.transforms
        assert data.untyped_storage().data_ptr() != out.untyped_storage().data_ptr()
        self.plan.execute(data.numpy(), out=out.numpy())
        self.executions += 1
        return out


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> type[CufinufftPlan]:
    """Send every input down the path of CUDA devices, with a stand-in for cufinufft."""
    module: Any = types.ModuleType("cufinufft")
    module.Plan = CufinufftPlan
    CufinufftPlan.made = []
    monkeypatch.setitem(sys.modules, "cufinufft", module)
    monkeypatch.setattr(nufft_plans, "_on_cpu", lambda _: False)
    monkeypatch.setattr(nufft_plans, "_stream", lambda _: 17)
    return CufinufftPlan


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("case", ["2d even", "3d odd"])
def test_contract_with_the_calls_of_cufinufft(
    case: str, check: Check, as_on_cuda: type[CufinufftPlan]
) -> None:
    operator: NUFFT = pickle.loads(pickle.dumps(OPERATORS[case]))
    check(operator)


def test_cufinufft_gets_what_it_asks_for(
    as_on_cuda: type[CufinufftPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nufft_plans, "_VALUES", 2 * 30)  # two transforms of 30 samples at once
    operator = NUFFT(Space((5, 4, 3), complex=True), scattered(2))
    x = random(operator.domain)
    y = operator(x)
    assert (
        distance(y.reshape(5, -1), x.reshape(5, -1) @ ndft((4, 3), operator.trajectory).T) < 1e-11
    )
    assert [plan.transforms for plan in as_on_cuda.made] == [2, 1]
    assert [plan.executions for plan in as_on_cuda.made] == [2, 1]
    operator.adjoint(y)
    operator(x)
    assert [(plan.type, plan.transforms) for plan in as_on_cuda.made] == [
        *[(2, 2), (2, 1)],
        *[(1, 2), (1, 1)],
    ]
    assert {plan.stream for plan in as_on_cuda.made} == {17}
    assert {plan.device for plan in as_on_cuda.made} == {0}
    monkeypatch.setattr(nufft_plans, "_stream", lambda _: 18)
    operator(x)
    assert {plan.stream for plan in as_on_cuda.made} == {17, 18}
    assert len(operator.plans) <= 4


def test_without_cufinufft_a_cuda_input_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cufinufft", None)
    monkeypatch.setattr(nufft_plans, "_on_cpu", lambda _: False)
    monkeypatch.setattr(nufft_plans, "_stream", lambda _: 0)
    operator = nufft((4, 6))
    with pytest.raises(ResourceError, match=r"medrecon\[gpu\]"):
        operator(random(operator.domain))
