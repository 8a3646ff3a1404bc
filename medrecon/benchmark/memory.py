"""The most memory that a stretch of work took."""

from __future__ import annotations

from pathlib import Path

import torch

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class Peak:
    """Peak memory from here on: of the GPU where there is one, else of the whole process.

    Parameters
    ----------
    device
        Torch device that the work runs on.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        if self._is_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        else:
            self._known = _reset()

    @property
    def _is_gpu(self) -> bool:
        return self._device.startswith("cuda")

    def megabytes(self) -> float | None:
        """MB since the start; ``None`` where the system does not tell it."""
        if self._is_gpu:
            return round(torch.cuda.max_memory_allocated(self._device) / 1e6, 1)
        return _resident() if self._known else None


def _reset() -> bool:
    """Let Linux forget the peak so far: writing 5 resets VmHWM (proc(5))."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _resident() -> float | None:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return None
