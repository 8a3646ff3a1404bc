"""The ASTRA toolbox itself: GPL-3, imported only where its backend is asked for."""

from __future__ import annotations

import importlib
from typing import Any

from medrecon.errors import MedreconError, ResourceError


def toolbox() -> Any:
    """Import ASTRA.

    Raises
    ------
    MedreconError
        If it is not installed.
    """
    try:
        return importlib.import_module("astra")
    except ImportError as error:
        raise MedreconError(
            "The ASTRA backend needs the ASTRA toolbox (GPL-3): pip install astra-toolbox, or use "
            "the native backend."
        ) from error


def toolbox_with_gpu() -> Any:
    """Import ASTRA if it has a GPU; without one its 3D projectors end the whole process.

    Raises
    ------
    MedreconError
        If it is not installed.
    ResourceError
        If it sees no GPU.
    """
    astra = toolbox()
    if not astra.use_cuda():
        raise ResourceError(
            "ASTRA projects volumes on an NVIDIA GPU only and sees none here; use the native "
            "backend."
        )
    return astra
