"""Conjugate gradients against dense solutions."""

import torch

from medrecon.solvers.cg import Outcome, conjugate_gradients, inner


def _hermitian(blocks, n, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(blocks, n + 3, n, dtype=torch.complex128, generator=generator)
    return a.mH @ a + 0.1 * torch.eye(n, dtype=torch.complex128)


def _apply(h):
    return lambda x: (h @ x[..., None])[..., 0]


def test_a_complex_hermitian_system_is_solved_to_the_dense_solution():
    h = _hermitian(1, 12)[0]
    b = torch.randn(12, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    solution = conjugate_gradients(_apply(h), b, max_iterations=200, tolerance=1e-13)
    assert torch.allclose(solution.value, torch.linalg.solve(h, b), rtol=1e-9)
    assert solution.outcome is Outcome.CONVERGED


def test_the_inner_product_conjugates_its_first_argument():
    a = torch.tensor([1j, 2.0 + 0j], dtype=torch.complex128)
    assert float(inner(a, a, 0)) == 5.0  # without conjugation it would be 3


def test_each_block_has_its_own_step_length():
    h = _hermitian(3, 8) * torch.tensor([1.0, 1e3, 1e-3])[:, None, None]
    b = torch.randn(3, 8, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    together = conjugate_gradients(_apply(h), b, blocks=1, max_iterations=5, tolerance=0)
    for k in range(3):
        alone = conjugate_gradients(_apply(h[k]), b[k], max_iterations=5, tolerance=0)
        assert torch.allclose(together.value[k], alone.value, rtol=1e-10)


def test_a_converged_block_stays_finite_while_others_go_on():
    h = torch.stack([torch.eye(6, dtype=torch.complex128), _hermitian(1, 6)[0]])
    b = torch.ones(2, 6, dtype=torch.complex128)
    solution = conjugate_gradients(_apply(h), b, blocks=1, max_iterations=60, tolerance=1e-12)
    assert torch.isfinite(solution.value.real).all()
    assert torch.allclose(solution.value[1], torch.linalg.solve(h[1], b[1]), rtol=1e-8)


def test_a_zero_right_hand_side_gives_zero():
    solution = conjugate_gradients(lambda x: 2 * x, torch.zeros(4, dtype=torch.float64))
    assert torch.equal(solution.value, torch.zeros(4, dtype=torch.float64))


def test_an_exact_preconditioner_needs_one_iteration():
    h = _hermitian(1, 10)[0]
    inverse = torch.linalg.inv(h)
    b = torch.ones(10, dtype=torch.complex128)
    solution = conjugate_gradients(_apply(h), b, preconditioner=_apply(inverse), tolerance=1e-10)
    assert solution.iterations == 1


def test_the_absolute_residual_is_the_energy_norm_of_the_error():
    h = _hermitian(1, 10)[0]
    b, x = torch.ones(10, dtype=torch.complex128), torch.zeros(10, dtype=torch.complex128)
    exact = torch.linalg.solve(h, b)
    inverse = torch.linalg.inv(h) * 0.5  # half of the best one: CG does not care, the norm does
    solution = conjugate_gradients(
        _apply(h), b, x, preconditioner=_apply(inverse), unit=1.0, max_iterations=1, tolerance=0
    )
    error = exact - solution.value
    energy = float((error.conj() @ h @ error).real)
    assert abs(solution.residual**2 - 0.5 * energy) < 1e-9


def test_it_says_when_it_did_not_get_there():
    h = _hermitian(1, 12)[0]
    b = torch.ones(12, dtype=torch.complex128)
    assert (
        conjugate_gradients(_apply(h), b, max_iterations=2, tolerance=1e-12).outcome
        is Outcome.MAX_ITERATIONS
    )


def test_it_stops_at_the_noise_level():
    h = _hermitian(1, 12)[0]
    b = torch.ones(12, dtype=torch.complex128)
    seen = []

    def reached(x):
        seen.append(x)
        return len(seen) == 3

    solution = conjugate_gradients(_apply(h), b, tolerance=0, reached_noise=reached)
    assert solution.outcome is Outcome.NOISE_LEVEL
    assert solution.iterations == 3
