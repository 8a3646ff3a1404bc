"""Random choices of a run: every step has a seed of its own, so a restart cannot change it."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch

from medrecon.anatomy.draw import Draw


class Stream(IntEnum):
    """What a seed is for; streams never share numbers."""

    WEIGHTS = 0
    BATCH = 1
    VALIDATION = 2
    BODY = 3


def seed_of(seed: int, stream: Stream, step: int = 0) -> int:
    """Return the 63-bit seed of a step, independent of those of all other steps and streams."""
    words = np.random.SeedSequence((seed, int(stream), step)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def draw_of(seed: int, stream: Stream, step: int = 0) -> Draw:
    """Make the draws of one step."""
    return Draw(torch.Generator().manual_seed(seed_of(seed, stream, step)))
