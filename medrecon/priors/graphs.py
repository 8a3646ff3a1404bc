"""A network's kernels launched as one: CUDA graphs by the shape of the input."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class GraphWarning(UserWarning):
    """A CUDA graph could not be captured: the run goes on without."""


Forward = Callable[[Sequence[Tensor]], Tensor]
_WARM_UP = 3  # calls before a capture: libraries choose their algorithms in the first ones


class Recorder(Protocol):
    """Records what a function launches, to be launched again on the same memory."""

    def __call__(self, launch: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Return the result's memory and what fills it anew from the inputs' memory."""


def record_cuda(launch: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
    """Capture a CUDA graph on a stream of its own.

    References
    ----------
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-graphs
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            launch()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = launch()
    return out, graph.replay


@dataclass(frozen=True)
class _Recording:
    inputs: tuple[Tensor, ...]
    output: Tensor
    replay: Callable[[], None]


@dataclass(eq=False)
class Graphed:
    """A function of tensors that is launched once and replayed for inputs of the same shapes.

    A compact network is over before the host has launched its two hundred kernels one by one;
    replayed, they cost one launch.  Works on memory of its own: inputs are copied in, the result
    out.  The function must not ask for a number of a tensor, nor change between calls.

    Parameters
    ----------
    function
        What to launch.
    recorder
        How to record it.
    limit
        Shapes to remember; others are launched one by one.
    """

    function: Forward
    recorder: Recorder = record_cuda
    limit: int = 4
    _recordings: dict[tuple[object, ...], _Recording] = field(default_factory=dict)

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        """Replay the function on ``inputs``, or launch it where there are too many shapes."""
        key = tuple((x.shape, x.dtype, x.device) for x in inputs)
        if key not in self._recordings and len(self._recordings) < self.limit:
            self._try_to_record(key, inputs)
        found = self._recordings.get(key)
        if found is None:
            return self.function(inputs)
        for own, new in zip(found.inputs, inputs, strict=True):
            own.copy_(new)
        found.replay()
        return found.output.clone()

    def _try_to_record(self, key: tuple[object, ...], inputs: Sequence[Tensor]) -> None:
        own = tuple(x.clone() for x in inputs)
        try:
            output, replay = self.recorder(lambda: self.function(own))
        except RuntimeError as error:
            self.limit = 0
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            warnings.warn(
                f"The prior's kernels could not be captured as a CUDA graph ({first}); they are "
                "launched one by one, which is slower and gives the same.",
                GraphWarning,
                stacklevel=2,
            )
            return
        self._recordings[key] = _Recording(own, output, replay)
