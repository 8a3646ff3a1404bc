"""The peers of the MR benchmark; runs in any interpreter that has NumPy and some of them.

``python -m tests.benchmarks.mri_peers`` lists what this interpreter can run; with arguments it is
one contestant, see :mod:`tests.benchmarks.mri_timing`.  Nothing of medrecon is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.mri_timing import Array, Arrays, Contestants, Steps, take_part

ITERATIONS = 20


def module(name: str) -> Any:
    """Import what may not be installed, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def threads() -> int:
    return int(sys.argv[-1])


def torch() -> Any:
    found = module("torch")
    found.set_num_threads(threads())
    return found


# BART, by its command line: every call pays for its process and its files, as its users do.


def write_cfl(path: Path, array: Array) -> None:
    """Arrays in C order are BART's in reverse order of the axes."""
    sizes = [*array.shape[::-1], *([1] * (16 - array.ndim))]
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, sizes)) + "\n")
    array.astype(np.complex64).tofile(path.with_suffix(".cfl"))


def read_cfl(path: Path) -> Array:
    sizes = path.with_suffix(".hdr").read_text().splitlines()[1].split()
    shape = [int(n) for n in sizes[::-1]]
    return np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(shape)


class Bart:
    """Runs commands in a folder of its own; arguments that are arrays become files."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="bart")
        self.home = Path(self.folder.name)

    def put(self, name: str, array: Array) -> str:
        write_cfl(self.home / name, array)
        return name

    def __call__(self, *words: str) -> Array:
        """Run; the last word names the result."""
        subprocess.run(["bart", *words], cwd=self.home, check=True, stdout=subprocess.DEVNULL)
        return read_cfl(self.home / words[-1])


def bart_trajectory(trajectory: Array) -> Array:
    """(shots, samples, (ky, kx)) to BART's (kx, ky, kz) first."""
    k = np.zeros((*trajectory.shape[:2], 3), np.complex64)
    k[..., :2] = trajectory[..., ::-1]
    return k


def bart_nufft(arrays: Arrays) -> Steps:
    bart = Bart()
    t = bart.put("t", bart_trajectory(arrays["trajectory"]))
    x = bart.put("x", arrays["images"][:, None])
    y = bart.put("y", arrays["kspace"][..., None])
    size = ":".join(str(n) for n in arrays["images"].shape[:0:-1])
    shape, samples = arrays["images"].shape, arrays["kspace"].shape
    return {
        "forward": lambda: bart("nufft", t, x, "fx").reshape(samples),
        "adjoint": lambda: bart("nufft", "-a", "-d", f"{size}:1", t, y, "ay").reshape(shape),
    }


def bart_pics(arrays: Arrays) -> Steps:
    """Slice by slice: its batch mode gives all slices one step length, so they end elsewhere.

    ``-w1`` keeps the data's scale; the sampling pattern is read off the data's zeros.
    """
    bart = Bart()
    options = ["-l2", "-r0", "-w1", f"-i{ITERATIONS}"]
    files = [
        (bart.put(f"k{i}", k[:, None]), bart.put(f"s{i}", s[:, None]))
        for i, (k, s) in enumerate(zip(arrays["kspace"], arrays["maps"], strict=True))
    ]
    shape = arrays["mask"].shape

    def run() -> Array:
        return np.stack([bart("pics", *options, k, s, "out").reshape(shape) for k, s in files])

    return {"run": run}


def bart_ecalib(*options: str) -> Any:
    def steps(arrays: Arrays) -> Steps:
        bart = Bart()
        kspace = arrays["kspace"]
        y = bart.put("y", kspace if kspace.ndim == 4 else kspace[:, None])
        return {
            "run": lambda: bart("ecalib", "-m1", "-r24", "-c0", *options, y, "maps").reshape(
                kspace.shape
            )
        }

    return steps


# sigpy


def sigpy_nufft(oversampling: float, width: int) -> Any:
    def steps(arrays: Arrays) -> Steps:
        sp = module("sigpy")
        coord = arrays["trajectory"]
        images, kspace = arrays["images"], arrays["kspace"]
        sp.nufft(images[:1], coord[:2])
        sp.nufft_adjoint(kspace[:1], coord, images[:1].shape)
        how = {"oversamp": oversampling, "width": width}
        return {
            "forward": lambda: sp.nufft(images, coord, **how),
            "adjoint": lambda: sp.nufft_adjoint(kspace, coord, images.shape, **how),
        }

    return steps


def sigpy_toeplitz(arrays: Arrays) -> Steps:
    sp = module("sigpy")
    images = arrays["images"]
    A = sp.linop.NUFFT(images.shape, arrays["trajectory"], oversamp=2, width=6, toeplitz=True)
    normal = A.N
    normal(images)
    return {"run": lambda: normal(images)}


def sigpy_sense(arrays: Arrays) -> Steps:
    app = module("sigpy.mri.app")
    weights = arrays["mask"].astype(np.float32)

    def run(slices: slice = slice(None)) -> Array:
        pairs = zip(arrays["kspace"][slices], arrays["maps"][slices], strict=True)
        how = {"weights": weights, "lamda": 0, "max_iter": ITERATIONS, "show_pbar": False}
        return np.stack([app.SenseRecon(k, s, **how).run() for k, s in pairs])

    run(slice(1))
    return {"run": run}


def sigpy_espirit(arrays: Arrays) -> Steps:
    app = module("sigpy.mri.app")
    how = {"calib_width": 24, "kernel_width": 6, "crop": 0, "show_pbar": False}
    return {"run": lambda: np.asarray(app.EspiritCalib(arrays["kspace"], **how).run())}


def sigpy_jsense(arrays: Arrays) -> Steps:
    app = module("sigpy.mri.app")
    how = {"mps_ker_width": 16, "ksp_calib_width": 24, "show_pbar": False}
    return {"run": lambda: np.asarray(app.JsenseRecon(arrays["kspace"], **how).run())}


# finufft alone: plans made once


def finufft_plans(eps: float, upsampling: float, *, double: bool = False) -> Any:
    """With an oversampling of 0 finufft chooses it."""

    def steps(arrays: Arrays) -> Steps:
        Plan = module("finufft").Plan
        dtype, real = (np.complex128, np.float64) if double else (np.complex64, np.float32)
        images, kspace = arrays["images"].astype(dtype), arrays["kspace"].astype(dtype)
        shape = images.shape[1:]
        points = [
            (2 * math.pi * arrays["trajectory"][..., a].reshape(-1) / n).astype(real)
            for a, n in enumerate(shape)
        ]
        how = {"upsampfac": upsampling, "nthreads": threads(), "dtype": np.dtype(dtype).name}
        forward = Plan(2, shape, len(images), eps, -1, **how)
        adjoint = Plan(1, shape, len(images), eps, 1, **how)
        forward.setpts(*points)
        adjoint.setpts(*points)
        scale = real(1 / math.sqrt(math.prod(shape)))
        flat = kspace.reshape(len(kspace), -1)

        def gram() -> Array:
            back: Array = adjoint.execute(forward.execute(images)) * scale**2
            return back

        gram()
        if "expected_gram" in arrays:
            return {"run": gram}
        return {
            "forward": lambda: (forward.execute(images) * scale).reshape(kspace.shape),
            "adjoint": lambda: adjoint.execute(flat) * scale,
        }

    return steps


def pytorch_finufft(arrays: Arrays) -> Steps:
    t = torch()
    functional = module("pytorch_finufft.functional")
    images, kspace = t.from_numpy(arrays["images"]), t.from_numpy(arrays["kspace"])
    shape = tuple(images.shape[1:])
    points = t.stack(
        [
            t.from_numpy(2 * math.pi * arrays["trajectory"][..., a].reshape(-1) / n).float()
            for a, n in enumerate(shape)
        ]
    )
    scale = 1 / math.sqrt(math.prod(shape))
    flat = kspace.reshape(len(kspace), -1)
    how = {"modeord": 0, "eps": 1e-6, "nthreads": threads()}

    def forward() -> Array:
        y = functional.finufft_type2(points, images, isign=-1, **how) * scale
        return np.asarray(y.reshape(kspace.shape))

    def adjoint() -> Array:
        return np.asarray(functional.finufft_type1(points, flat, shape, isign=1, **how) * scale)

    forward()
    return {"forward": forward, "adjoint": adjoint}


# mrpro


def mrpro_fourier(arrays: Arrays) -> Any:
    t = torch()
    mrpro = module("mrpro")
    ny, nx = arrays["images"].shape[1:]
    k = t.from_numpy(arrays["trajectory"]).float()[None, None, None]
    trajectory = mrpro.data.KTrajectory(kz=t.zeros(1, 1, 1, 1, 1), ky=k[..., 0], kx=k[..., 1])
    size = mrpro.data.SpatialDimension(1, ny, nx)
    return mrpro.operators.FourierOp(size, size, trajectory)


def mrpro_nufft(arrays: Arrays) -> Steps:
    t = torch()
    F = mrpro_fourier(arrays)
    x = t.from_numpy(arrays["images"])[None, :, None]
    y = t.from_numpy(arrays["kspace"])[None, :, None]
    F.H(F(x)[0])
    return {
        "forward": lambda: np.asarray(F(x)[0][0, :, 0]),
        "adjoint": lambda: np.asarray(F.H(y)[0][0, :, 0]),
    }


def mrpro_toeplitz(arrays: Arrays) -> Steps:
    t = torch()
    gram = mrpro_fourier(arrays).gram
    x = t.from_numpy(arrays["images"])[None, :, None]
    gram(x)
    return {"run": lambda: np.asarray(gram(x)[0][0, :, 0])}


def mrpro_sense(arrays: Arrays) -> Steps:
    t = torch()
    mrpro = module("mrpro")
    maps = t.from_numpy(arrays["maps"])[:, :, None]  # other coils z y x
    y = t.from_numpy(arrays["kspace"])[:, :, None]
    mask = t.from_numpy(arrays["mask"])
    masked = mrpro.operators.EinsumOp(mask.to(y.dtype), "y x, ... y x -> ... y x")
    F = mrpro.operators.FastFourierOp(dim=(-2, -1))

    def run(slices: slice = slice(None)) -> Array:
        A = masked @ F @ mrpro.operators.SensitivityOp(maps[slices])
        (b,) = A.H(y[slices])
        cg = mrpro.algorithms.optimizers.cg
        (x,) = cg(A.H @ A, b, max_iterations=ITERATIONS, tolerance=0.0)
        return np.asarray(x[:, 0, 0])

    run(slice(1))
    return {"run": run}


# bartorch


def bartorch() -> Any:
    found = module("bartorch")
    found.set_num_threads(threads())
    return found


def bartorch_operator(arrays: Arrays) -> Any:
    t = torch()
    bartorch()
    k = t.from_numpy(np.ascontiguousarray(arrays["trajectory"][..., ::-1])).float()
    return module("bartorch.linop").NUFFT(k, image_shape=arrays["images"].shape)


def bartorch_nufft(arrays: Arrays) -> Steps:
    t = torch()
    A = bartorch_operator(arrays)
    x, y = t.from_numpy(arrays["images"]), t.from_numpy(arrays["kspace"])
    A.adjoint(A(x))
    return {"forward": lambda: np.asarray(A(x)), "adjoint": lambda: np.asarray(A.adjoint(y))}


def bartorch_toeplitz(arrays: Arrays) -> Steps:
    t = torch()
    A = bartorch_operator(arrays)
    x = t.from_numpy(arrays["images"])
    A.normal(x)
    return {"run": lambda: np.asarray(A.normal(x))}


def bartorch_sense(arrays: Arrays) -> Steps:
    t = torch()
    bartorch()
    linop, optim = module("bartorch.linop"), module("bartorch.optim")
    mask = t.from_numpy(arrays["mask"])
    shape = tuple(mask.shape)

    def run(slices: slice = slice(None)) -> Array:
        images = []
        for k, s in zip(arrays["kspace"][slices], arrays["maps"][slices], strict=True):
            A = linop.CartesianSense(t.from_numpy(s), shape, mask)
            images.append(np.asarray(optim.cg(t.from_numpy(k), A, maxiter=ITERATIONS)))
        return np.stack(images).reshape(-1, *shape)

    run(slice(1))
    return {"run": run}


def bartorch_ecalib(arrays: Arrays) -> Steps:
    t = torch()
    bartorch()
    tools = module("bartorch.tools")
    y = t.from_numpy(arrays["kspace"])
    return {"run": lambda: np.asarray(tools.ecalib(y, maps=1, crop=0.0)).reshape(y.shape)}


# the others


def mrinufft_finufft(arrays: Arrays) -> Steps:
    mrinufft = module("mrinufft")
    k = arrays["trajectory"]
    images, kspace = arrays["images"], arrays["kspace"]
    shape = images.shape[1:]
    samples = (k / np.array(shape)).astype(np.float32)
    A = mrinufft.get_operator("finufft")(samples, shape, n_coils=len(images), squeeze_dims=True)
    flat = kspace.reshape(len(kspace), -1)
    # its own factor, so that the results are those of the orthonormal convention
    factor = A.norm_factor / math.sqrt(math.prod(shape))
    A.op(images)
    return {
        "forward": lambda: A.op(images).reshape(kspace.shape) * factor,
        "adjoint": lambda: A.adj_op(flat) * factor,
    }


def torchkbnufft(arrays: Arrays) -> Steps:
    t = torch()
    tk = module("torchkbnufft")
    images, kspace = t.from_numpy(arrays["images"]), t.from_numpy(arrays["kspace"])
    shape = tuple(images.shape[1:])
    omega = t.stack(
        [
            t.from_numpy(2 * math.pi * arrays["trajectory"][..., a].reshape(-1) / n).float()
            for a, n in enumerate(shape)
        ]
    )
    forward, adjoint = tk.KbNufft(im_size=shape), tk.KbNufftAdjoint(im_size=shape)
    flat = kspace.reshape(1, len(kspace), -1)
    scale = 1 / math.sqrt(math.prod(shape))
    if "expected_gram" in arrays:
        kernel = tk.calc_toeplitz_kernel(omega, shape)
        gram = tk.ToepNufft()
        gram(images[None], kernel)
        return {"run": lambda: np.asarray(gram(images[None], kernel)[0]) * scale**2}
    forward(images[None, :1], omega)
    return {
        "forward": lambda: np.asarray(forward(images[None], omega)).reshape(kspace.shape) * scale,
        "adjoint": lambda: np.asarray(adjoint(flat, omega)[0]) * scale,
    }


def deepinv_sense(arrays: Arrays) -> Steps:
    t = torch()
    MultiCoilMRI = module("deepinv.physics").MultiCoilMRI

    def split(z: Any) -> Any:
        return t.view_as_real(z).movedim(-1, 1)

    y, maps = t.from_numpy(arrays["kspace"]), t.from_numpy(arrays["maps"])
    mask = t.from_numpy(arrays["mask"]).float()

    def run(slices: slice = slice(None)) -> Array:
        physics = MultiCoilMRI(mask=mask, coil_maps=maps[slices])
        how = {"solver": "CG", "max_iter": ITERATIONS, "tol": 0.0}
        x = physics.A_dagger(split(y[slices]), **how)
        return np.asarray(t.view_as_complex(x.movedim(1, -1).contiguous()))

    run(slice(1))
    return {"run": run}


NEEDS: dict[str, str] = {
    "finufft 1e-6": "finufft",
    "finufft 1e-6, sigma 2": "finufft",
    "finufft 1e-6, sigma 1.5, double": "finufft",
    "finufft 1e-6, sigma 1.25": "finufft",
    "finufft, forward and adjoint": "finufft",
    "sigpy (oversampling 1.25, width 4)": "sigpy",
    "sigpy (oversampling 2, width 6)": "sigpy",
    "sigpy, Toeplitz": "sigpy",
    "sigpy SenseRecon": "sigpy",
    "sigpy EspiritCalib": "sigpy",
    "sigpy JsenseRecon": "sigpy",
    "pytorch-finufft": "pytorch_finufft",
    "mrpro": "mrpro",
    "mrpro, Toeplitz": "mrpro",
    "bartorch": "bartorch",
    "bartorch, Toeplitz": "bartorch",
    "mri-nufft (finufft)": "mrinufft",
    "torchkbnufft": "torchkbnufft",
    "torchkbnufft, Toeplitz": "torchkbnufft",
    "deepinv": "deepinv",
}
"""Library to the module it needs; those of BART need its command."""

ALL: Contestants = {
    "nufft": {
        "finufft 1e-6": finufft_plans(1e-6, 0.0),
        "finufft 1e-6, sigma 2": finufft_plans(1e-6, 2.0),
        "finufft 1e-6, sigma 1.5, double": finufft_plans(1e-6, 1.5, double=True),
        "finufft 1e-6, sigma 1.25": finufft_plans(1e-6, 1.25),
        "sigpy (oversampling 1.25, width 4)": sigpy_nufft(1.25, 4),
        "sigpy (oversampling 2, width 6)": sigpy_nufft(2, 6),
        "BART nufft": bart_nufft,
        "pytorch-finufft": pytorch_finufft,
        "mrpro": mrpro_nufft,
        "bartorch": bartorch_nufft,
        "mri-nufft (finufft)": mrinufft_finufft,
        "torchkbnufft": torchkbnufft,
    },
    "toeplitz": {
        "finufft, forward and adjoint": finufft_plans(1e-6, 2.0),
        "sigpy, Toeplitz": sigpy_toeplitz,
        "mrpro, Toeplitz": mrpro_toeplitz,
        "bartorch, Toeplitz": bartorch_toeplitz,
        "torchkbnufft, Toeplitz": torchkbnufft,
    },
    "cg_sense": {
        "BART pics": bart_pics,
        "sigpy SenseRecon": sigpy_sense,
        "mrpro": mrpro_sense,
        "bartorch": bartorch_sense,
        "deepinv": deepinv_sense,
    },
    "espirit_2d": {
        "BART ecalib": bart_ecalib(),
        "BART ecalib -a": bart_ecalib("-a"),
        "sigpy EspiritCalib": sigpy_espirit,
        "sigpy JsenseRecon": sigpy_jsense,
        "bartorch": bartorch_ecalib,
    },
    "espirit_3d": {
        "BART ecalib": bart_ecalib(),
        "bartorch": bartorch_ecalib,
        "sigpy EspiritCalib": sigpy_espirit,
    },
}


def available(library: str) -> bool:
    if library.startswith("BART"):
        return shutil.which("bart") is not None
    return importlib.util.find_spec(NEEDS[library]) is not None


if __name__ == "__main__":
    here = {
        case: {library: steps for library, steps in named.items() if available(library)}
        for case, named in ALL.items()
    }
    take_part(here, sys.argv[1:])
