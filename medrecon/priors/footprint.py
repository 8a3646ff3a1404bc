"""How much memory a network needs, found by running it on tensors that have none."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

WORKSPACE = 2.0
"""What convolutions take beside their input and output, as a factor on the tensors' peak; see
``tests/benchmarks/sampler_speed.py --memory``."""


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the books of live tensor storage: every operation's results, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: int = 0
        self.peak: int = 0
        self._holders: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {_key(leaf) for leaf in tree_flatten(args)[0] if isinstance(leaf, Tensor)}
        for leaf in tree_flatten(out)[0]:
            if isinstance(leaf, Tensor):
                self._hold(leaf, known=_key(leaf) in given)
        return out

    def _hold(self, tensor: Tensor, *, known: bool) -> None:
        key, size = _key(tensor), tensor.untyped_storage().nbytes()
        if key not in self._holders:
            if known:  # a view of an input of the network: was there before
                return
            self.live += size
            self.peak = max(self.peak, self.live)
        self._holders[key] = self._holders.get(key, 0) + 1
        weakref.finalize(tensor, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        if self._holders[key] == 0:
            del self._holders[key]
            self.live -= size


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@torch.no_grad()
def activation_bytes(
    model: nn.Module, inputs: Sequence[Tensor | None], dtype: torch.dtype = torch.float32
) -> int:
    """Peak bytes of tensors that a forward pass makes, its result among them.

    Nothing is computed: weights and inputs are replaced by tensors without storage (torch's
    ``meta`` device), and what lives at the same time is counted.

    Parameters
    ----------
    model
        The network.
    inputs
        Arguments of its ``forward``; only their shapes are looked at.
    dtype
        Precision of weights and activations.
    """
    state = {
        name: _weightless(value, dtype)
        for name, value in [*model.named_parameters(), *model.named_buffers()]
    }
    hollow = tuple(None if x is None else _weightless(x, dtype) for x in inputs)
    ledger = _Ledger()
    with ledger:
        torch.func.functional_call(model, state, hollow)
    return ledger.peak


def _weightless(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    kind = dtype if tensor.is_floating_point() else tensor.dtype
    return torch.empty(tensor.shape, dtype=kind, device="meta")


def weight_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights as they are held."""
    return sum(x.numel() * x.element_size() for x in [*model.parameters(), *model.buffers()])
