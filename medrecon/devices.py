"""Where to compute: the words of ``--device`` and what they stand for here."""

from __future__ import annotations

import re

import torch

from medrecon.errors import ResourceError, UsageError


def resolve_device(name: str) -> str:
    """Return the torch device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    ``auto`` takes the first GPU where there is one; the other words never fall back silently.

    Raises
    ------
    UsageError
        If the word is none of these.
    ResourceError
        If the GPU asked for is not there.

    Examples
    --------
    >>> resolve_device("cpu")
    'cpu'
    """
    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    if not re.fullmatch(r"cuda(:[0-9]{1,3})?", name):
        raise UsageError(f"--device {name!r}: use auto, cpu, cuda or cuda:N.")
    index = int(name.partition(":")[2] or 0)
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= found:
        raise ResourceError(
            f"--device {name}: this machine has {found or 'no'} usable GPU{'s' * (found != 1)}; "
            "use --device auto to take what is there."
        )
    return f"cuda:{index}"
