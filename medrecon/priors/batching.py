"""How many slices at once: as many as are worth it and fit into memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from medrecon.errors import ResourceError
from medrecon.priors.footprint import WORKSPACE, activation_bytes, weight_bytes
from medrecon.priors.network import EDM
from medrecon.priors.slicewise import Slicewise

WORTH = {"cpu": 4, "cuda": 64}
"""Slices at once beyond which nothing gets faster: a CPU is busy with one."""
_SHARE = 0.7  # of the memory that is free: others want some, and estimates are estimates
_MIB = 2**20


@dataclass(frozen=True)
class Plan:
    """A batch, and the memory that a run will take.

    Parameters
    ----------
    batch
        Slices at once.
    weights, activations, volumes
        Bytes of the network, of what it makes of a batch (its weights in another layout among
        them), and of the volumes around it.
    available
        Bytes that were free; infinite where nobody tells.
    """

    batch: int
    weights: int
    activations: int
    volumes: int
    available: float

    @property
    def needed(self) -> int:
        """Bytes in all, without the scanner model's."""
        return self.weights + self.activations + self.volumes

    def as_json(self) -> dict[str, int | None]:
        """For the record of a run, MiB."""
        free = None if math.isinf(self.available) else round(self.available / _MIB)
        return {
            "batch": self.batch,
            "weights_mib": math.ceil(self.weights / _MIB),
            "activations_mib": math.ceil(self.activations / _MIB),
            "volumes_mib": math.ceil(self.volumes / _MIB),
            "available_mib": free,
        }


def plan_batch(
    denoiser: Slicewise,
    shape: Sequence[int],
    *,
    device: str,
    available: float,
    at_most: int | None = None,
    volumes: int = 0,
) -> Plan:
    """Find the batch for volumes of a shape.

    Parameters
    ----------
    denoiser
        The prior, on its device.
    shape
        Volume, ``(z, y, x)``.
    device
        Where it runs.
    available
        Free bytes there, see :func:`medrecon.devices.available_memory`.
    at_most
        Largest batch; ``None``: :data:`WORTH`.
    volumes
        Bytes that the run needs for its volumes beside the network.

    Raises
    ------
    ResourceError
        If not even one slice at a time fits.
    """
    limit = min(shape[0], at_most or WORTH[torch.device(device).type])
    single = math.ceil(WORKSPACE * activation_bytes(*_slice_of(denoiser, shape)))
    weights = weight_bytes(denoiser.model)
    reordered = weights  # convolutions keep them in a layout or precision of their own
    usable = _SHARE * available - volumes - reordered
    fitting = limit if math.isinf(usable) else math.floor(usable / single)
    if fitting < 1:
        needed = (volumes + reordered + single) / _MIB
        raise ResourceError(
            f"The prior needs {needed:.0f} MiB of memory for one slice at a time of a volume "
            f"of {'x'.join(map(str, shape))} voxels, and {available / _MIB:.0f} MiB are free on "
            f"{device}; use a smaller grid or a smaller prior."
        )
    batch = min(limit, fitting)
    return Plan(batch, weights, reordered + batch * single, volumes, available)


def with_batch(denoiser: Slicewise, batch: int) -> Slicewise:
    """Return the same prior with another number of slices at once."""
    return replace(denoiser, batch=batch)


def _slice_of(
    denoiser: Slicewise, shape: Sequence[int]
) -> tuple[torch.nn.Module, tuple[Tensor, ...], torch.dtype]:
    """Arguments of :func:`activation_bytes` for one slice of a volume."""
    network = denoiser.model.network
    height, width = (math.ceil(n / network.stride) * network.stride for n in shape[1:])
    level = torch.empty(1, device="meta")
    sizes = [network.channels]
    if isinstance(denoiser.model, EDM):  # position, and neighbours
        sizes += [2, 2 * network.channels] if network.neighbours else [2]
    slices, *rest = (torch.empty(1, c, height, width, device="meta") for c in sizes)
    return cast("torch.nn.Module", network), (slices, level, *rest), denoiser.precision
