"""How much memory is there to take."""

from __future__ import annotations

import math
import os
from pathlib import Path


def free_memory() -> float:
    """Bytes that a process may take without pushing others out; infinite where nobody tells."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, AttributeError):
        return math.inf
