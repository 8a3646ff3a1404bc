"""The published DDS loop, from the user's own clone, with medrecon's network and operator in it.

Nothing of that code is here: its modules are imported from a folder, and the names that they look
up (network, operator, picture files) are replaced while its own reverse loop runs.

Data and images take the published range: the loop sees ``v = (u + 1) / 2`` of CT, so that its
``rho`` and ``lamb`` mean what they were published for, and an operator scaled to the norm that they
were tuned to. It knows no statistical weights: the operator has none unless they are asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from medrecon.data_term import DataTerm
from medrecon.errors import UnreadableError
from medrecon.priors.weights import Prior
from medrecon.sampling.data_step import largest_curvature
from medrecon.solvers.cg import conjugate_gradients

CT_NORM = 402.0
"""Largest eigenvalue of the published CT operator times its back-projection at 256 x 256 voxels,
whatever the number of views; it grows with the number of voxels a side."""
ETA, RHO, LAMBDA, GAMMA, CG = 0.85, 10.0, 0.04, 1.0, 5
"""As in the released scripts: eval_SVCT_3d.sh for CT, the defaults of main.py for MR."""


@dataclass
class Outcome:
    """What a run of the published loop gave.

    Parameters
    ----------
    image
        ``(z, y, x)`` in the prior's unit; of MR the magnitude, which is all that it keeps.
    calls
        How often the network was called.
    seconds, cpu_seconds
        Time of the loop, by the clock and of the processor; its pictures are not written.
    """

    image: Tensor
    calls: int
    seconds: float
    cpu_seconds: float


class NoisePredictor(nn.Module):
    """A denoiser ``D(x, sigma)`` as the network that predicts the noise of a VP chain.

    ``x_t = sqrt(ab) v + sqrt(1 - ab) e`` divided by ``sqrt(ab)`` is ``v + s e`` with
    ``s = sqrt((1 - ab) / ab)``, so ``e = (x_t / sqrt(ab) - D(x_t / sqrt(ab), s)) / s``. Above the
    largest level that the prior knows the noisy volume is scaled down to that level.

    Parameters
    ----------
    prior
        The prior.
    betas
        Of the chain.
    """

    def __init__(self, prior: Prior, betas: Tensor) -> None:
        super().__init__()
        self.denoiser, self.largest = prior.denoiser, prior.card.sigma_range[1]
        self.is_mr = prior.card.modality == "MR"
        self.products = (1 - betas).cumprod(0)
        self.calls = 0

    def _denoise(self, x: Tensor, sigma: float) -> Tensor:
        self.calls += 1
        down = min(1.0, self.largest / sigma)
        return self.denoiser(down * x, down * sigma)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict the noise of ``(n, channels, y, x)``, and zeros for the learned variances."""
        product = float(self.products[int(t[0])])
        sigma, x = math.sqrt((1 - product) / product), x / math.sqrt(product)
        if self.is_mr:
            noisy = torch.complex(x[:, 0], x[:, 1])
            noise = torch.view_as_real(noisy - self._denoise(noisy, sigma)).movedim(-1, 1) / sigma
        else:
            u = self._denoise(2 * x[:, 0] - 1, 2 * sigma)
            noise = (x - (u[:, None] + 1) / 2) / sigma
        return torch.cat([noise, torch.zeros_like(noise)], 1)


@dataclass
class Scanner:
    """A data term as the operator object of the published code, whitened and scaled to its norm.

    Parameters
    ----------
    data
        What was measured.
    voxels
        Voxels a side.
    correct
        Repairs the data term of MR: the released loop adds a complex image to both of two real
        channels, which makes it ``(1 + i)`` times too large; here those channels get its parts.
    """

    data: DataTerm
    voxels: int
    correct: bool
    started: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.is_mr = self.data.operator.domain.complex
        self.factor = 1.0 if self.is_mr else 2.0  # u = 2 v - 1
        norm = 1.0 if self.is_mr else CT_NORM * self.voxels / 256
        top = self.factor**2 * largest_curvature(self.data)
        self.scale = math.sqrt(norm / top)
        zero = torch.zeros_like(self.data.rhs)
        if not self.is_mr:
            zero = zero - 1
        self.measured = (self.scale * self.data.residual(zero)).contiguous()
        self._blank = self.data.residual(torch.zeros_like(zero))

    def A(self, v: Tensor) -> Tensor:
        """Measure ``(z, 1, y, x)``; the first time, asked for the truth, give what was measured."""
        if not self.started:
            self.started = True
            return self.measured
        seen = self._blank - self.data.residual(self.factor * v[:, 0])
        return (self.scale * seen).contiguous()

    def A_dagger(self, y: Tensor) -> Tensor:
        """For a picture that is not written."""
        return self._back(y)

    def AT(self, y: Tensor) -> Tensor:
        """Adjoint, ``(z, 1, y, x)``."""
        back = self._back(y)
        if self.correct and self.is_mr and y is self.measured:
            return torch.cat([back.real, back.imag], 1)
        return back

    def _back(self, y: Tensor) -> Tensor:
        root = torch.as_tensor(self.data.precision).sqrt().to(y.device)
        back = self.data.operator.adjoint(root * y)
        return (self.scale * self.factor * self.data.scale * back)[:, None].contiguous()


def run_published(
    clone: Path,
    prior: Prior,
    data: DataTerm,
    truth: Tensor,
    *,
    correct: bool,
    weighted: bool,
    steps: int,
    seed: int,
) -> Outcome:
    """Run the published loop on a problem.

    Parameters
    ----------
    clone
        Folder with the published code.
    prior
        Network; CT runs the loop of volumes, MR that of slices.
    data
        Data term; MR of one slice.
    truth
        ``(z, y, x)``; for its shape, which the loop reads from files.
    correct
        Repair what is wrong in the release: the data term of MR, inner products without
        conjugation and the periodic difference along z.
    weighted
        Keep the data term's weights; the release has none.
    steps, seed
        Of the loop.

    Raises
    ------
    UnreadableError
        If the folder is not that code, or the image not square.
    """
    if truth.shape[-1] != truth.shape[-2]:
        raise UnreadableError(f"The published loop wants square slices, got {tuple(truth.shape)}.")
    is_mr = data.operator.domain.complex
    with _modules(clone) as (solver_2d, solver_3d), tempfile.TemporaryDirectory() as scratch:
        module = solver_2d if is_mr else solver_3d
        folder = Path(scratch)
        loop = module.Diffusion(
            _arguments(folder, steps, is_mr), _config(truth.shape[-1], is_mr), torch.device("cpu")
        )
        network = NoisePredictor(prior, loop.betas)
        scanner = Scanner(data if weighted else _unweighted(data), truth.shape[-1], correct)
        _write_slices(folder / "slices", truth, is_mr)
        pictures: dict[str, Any] = {}
        replaced = _replacements(module, scanner, pictures, correct, is_mr)
        torch.manual_seed(seed)
        begin, worked = time.monotonic(), time.process_time()
        with contextlib.ExitStack() as stack:
            for one in replaced:
                stack.enter_context(one)
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            (loop.dds if is_mr else loop.dds3d)(network)
        took = time.monotonic() - begin, time.process_time() - worked
        if is_mr:
            image = torch.from_numpy(pictures[str(folder / "out" / "recon" / "000.png")])[None]
            return Outcome(image, network.calls, *took)
        volume = torch.from_numpy(np.load(folder / "out" / "recon" / "recon.npy"))
        return Outcome(2 * volume.reshape(truth.shape) - 1, network.calls, *took)


def _unweighted(data: DataTerm) -> DataTerm:
    """Every measurement counts alike; those that are missing stay missing."""
    precision = torch.as_tensor(data.precision)
    if precision.ndim == 0:
        return data
    measured = (precision > 0).to(precision)
    return replace(data, precision=measured * (precision.sum() / measured.sum()))


@contextlib.contextmanager
def _modules(clone: Path) -> Iterator[tuple[Any, Any]]:
    """Import the clone's two solvers; its top-level names are taken away again."""
    if not (clone / "solver_3d.py").is_file() or not (clone / "solver_2d.py").is_file():
        raise UnreadableError(
            f"{clone} has no solver_2d.py and solver_3d.py; give --clone a clone of the published "
            "DDS code (github.com/hyungjin-chung/DDS)."
        )
    unused = {name: types.ModuleType(name) for name in ("torchvision", "torchvision.utils")}
    before = set(sys.modules)
    sys.path.insert(0, str(clone))
    try:
        with mock.patch.dict(sys.modules, unused):
            yield importlib.import_module("solver_2d"), importlib.import_module("solver_3d")
    finally:
        sys.path.remove(str(clone))
        for name in set(sys.modules) - before:
            where = getattr(sys.modules[name], "__file__", None)
            if where and Path(where).is_relative_to(clone):
                del sys.modules[name]


def _arguments(folder: Path, steps: int, is_mr: bool) -> SimpleNamespace:
    return SimpleNamespace(
        image_folder=folder / "out",
        dataset_path=str(folder / "slices"),
        Nview=0,
        rho=RHO,
        lamb=LAMBDA,
        CG_iter=CG,
        deg="MRI-multi" if is_mr else "SV-CT",
        eta=ETA,
        gamma=GAMMA,
        sigma_y=0.01 if is_mr else 0.0,
        T_sampling=steps,
        mask_type="uniform1d",
        acc_factor=4,
        center_fraction=0.08,
    )


def _config(voxels: int, is_mr: bool) -> SimpleNamespace:
    return SimpleNamespace(
        device=torch.device("cpu"),
        model=SimpleNamespace(var_type="fixedsmall"),
        data=SimpleNamespace(image_size=voxels, channels=2 if is_mr else 1),
        sampling=SimpleNamespace(batch_size=1),
        diffusion=SimpleNamespace(
            beta_schedule="linear",
            beta_start=0.0001,
            beta_end=0.02,
            num_diffusion_timesteps=1000,
        ),
    )


def _write_slices(folder: Path, truth: Tensor, is_mr: bool) -> None:
    """Write what the loop reads: slices, and for MR coil maps, whose values are not used here."""
    names = ("slice", "mps") if is_mr else ("",)
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k, one in enumerate(truth):
            image = one.numpy() if name != "mps" else one.numpy()[None]
            np.save(folder / name / f"{k:03d}.npy", image)


def _replacements(
    module: Any, scanner: Scanner, pictures: dict[str, Any], correct: bool, is_mr: bool
) -> list[Any]:
    """List what the loop gets in place of what it looks up."""

    def keep(path: str, image: Any, **_: Any) -> None:
        pictures[str(path)] = image

    to = Tensor.to

    def to_here(tensor: Tensor, *where: Any, **options: Any) -> Tensor:
        """``.to("cuda")`` stands in the loop; here there may be none."""
        return tensor if where == ("cuda",) else to(tensor, *where, **options)

    patch = mock.patch.object
    replaced = [
        patch(module.plt, "imsave", keep),
        patch(module.tqdm, "tqdm", lambda pairs, **_: pairs),
        patch(Tensor, "to", to_here),
    ]
    if is_mr:
        replaced += [
            patch(module, "MulticoilMRI", lambda *_: scanner),
            patch(module, "get_mask", lambda image, *_, **__: torch.ones_like(image)),
        ]
    else:
        replaced.append(patch(module, "CT", lambda **_: scanner))
    if correct:
        replaced.append(patch(module, "CG", _hermitian_cg))
        if not is_mr:
            replaced += [patch(module, "_Dz", _difference), patch(module, "_DzT", _transposed)]
    return replaced


def _hermitian_cg(
    system: Any, b: Tensor, start: Tensor, n_inner: int = 5, eps: float = 1e-5
) -> Tensor:
    """Conjugate gradients with conjugated inner products, under the signature of the release."""
    return conjugate_gradients(
        system, b, start, blocks=0, max_iterations=n_inner, tolerance=1e-12
    ).value


def _difference(x: Tensor) -> Tensor:
    """Differences to the next slice; the last slice has none."""
    return torch.cat([x[1:] - x[:-1], torch.zeros_like(x[:1])])


def _transposed(y: Tensor) -> Tensor:
    """Transpose of :func:`_difference`."""
    inner = y[:-1]
    zero = torch.zeros_like(y[:1])
    return torch.cat([zero, inner]) - torch.cat([inner, zero])
