"""One scan of one image, as a protocol with changes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from medrecon.protocol import ConeScan, Protocol
from medrecon.protocol_files import load_protocol

Subject = Literal["chest", "brain", "head", "catphan"]
SLICE_MM = 2.5
"""Distance of slices of CT volumes, that of the shipped chest."""


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """A ball with a soft edge, put where it fits: in the middle of the widest region of its kind.

    Parameters
    ----------
    low, high
        Values of the tissue around it: HU, MR relative to the image's 99.5th percentile.
    contrast
        What the ball's values differ by, in the same unit.
    radius_mm
        Of the ball.
    """

    low: float
    high: float
    contrast: float
    radius_mm: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scan.

    Parameters
    ----------
    name
        E.g. ``cone-32``; unique within its suite.
    suite
        Where it belongs.
    subject
        Which image is measured, unless the caller gives one.
    protocol
        Shipped protocol that scanner and sampler come from.
    changes
        ``key=value`` texts on it, as of ``--set``.
    slices
        Most slices that are measured.
    lesion
        Put into the image; every method is then run with and without it.
    """

    name: str
    suite: str
    subject: Subject
    protocol: str
    changes: tuple[str, ...] = ()
    slices: int = 32
    lesion: Lesion | None = None

    @property
    def modality(self) -> Literal["CT", "MR"]:
        """CT or MR."""
        return "MR" if self.subject == "brain" else "CT"

    def load(self, slices: int, further: Sequence[str] = ()) -> Protocol:
        """Read the case's protocol, for so many slices, with further changes.

        Raises
        ------
        ProtocolError
            If a change does not fit.
        """
        protocol = load_protocol(self.protocol, (*self.changes, *further))
        if self.modality == "MR" or protocol.grid is None:
            return protocol
        sized = [f"grid.shape={[slices, *protocol.grid.shape[1:]]}"]
        if isinstance(protocol.acquisition, ConeScan):
            # as many rows of one slice each as the slices and the cone's slope take
            sized.append(f"acquisition.rows={math.ceil(1.2 * slices + 5)}")
        return load_protocol(self.protocol, (*self.changes, *further, *sized))


def change(key: str, value: Mapping[str, Any] | Sequence[Any] | float | str) -> str:
    """Write one change of a protocol, of a single value or of a whole block."""
    return f"{key}={json.dumps(value)}"
