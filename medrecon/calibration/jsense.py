"""JSENSE: image and sensitivities estimated together, by sigpy."""

from __future__ import annotations

import numpy as np
import sigpy.mri.app
import torch
from torch import Tensor

_WIDTH = 12  # of the maps' Fourier kernels, samples


def jsense(plane: Tensor, shape: tuple[int, int]) -> Tensor:
    """Coil maps of one slice from the fully sampled middle of its k-space.

    Maps have few Fourier coefficients; they and the image are solved for in turns.

    Parameters
    ----------
    plane
        Complex, ``(coils, h, w)``.
    shape
        Size ``(y, x)`` of the maps.

    Returns
    -------
    Tensor
        ``(coils, y, x)``, of unit norm over the coils, each with an arbitrary phase.

    References
    ----------
    Ying and Sheng, Joint image reconstruction and sensitivity estimation in SENSE (JSENSE), Magn
    Reson Med 57 (2007), doi:10.1002/mrm.21245; Uecker et al., Image reconstruction by regularized
    nonlinear inversion, Magn Reson Med 60 (2008), doi:10.1002/mrm.21691 (the truncated Fourier
    representation).
    """
    coils, h, w = plane.shape
    y, x = shape[0] // 2 - h // 2, shape[1] // 2 - w // 2
    kspace = np.zeros((coils, *shape), dtype=np.complex64)
    weights = np.zeros(shape, dtype=np.float32)
    kspace[:, y : y + h, x : x + w] = plane.cpu().numpy()
    weights[y : y + h, x : x + w] = 1
    app = sigpy.mri.app.JsenseRecon(
        kspace,
        mps_ker_width=min(_WIDTH, h, w),
        ksp_calib_width=max(h, w),
        weights=weights,
        show_pbar=False,
    )
    maps: Tensor = torch.from_numpy(app.run())
    return maps.to(plane)
