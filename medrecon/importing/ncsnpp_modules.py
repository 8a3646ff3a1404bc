"""The numbered modules of a score_sde network, told apart by the names of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from medrecon.errors import WeightsError

Kind = Literal[
    "fourier", "linear", "norm", "conv", "residual", "resampling-block", "attention", "join",
    "conv-resample", "filtered-resample", "nothing",
]  # fmt: skip
"""``nothing`` is a module without weights: resampling that was not learned."""

_REGISTERED = (
    "GroupNorm_0", "Conv_0", "Conv2d_0", "Dense_0", "GroupNorm_1", "Conv_1", "Conv_2",
    "NIN_0", "NIN_1", "NIN_2", "NIN_3",
)  # fmt: skip
"""Parts of a module in the order in which PyTorch counts them."""
_LEAVES = ("weight", "bias", "W", "b")


@dataclass(frozen=True)
class ForeignModule:
    """One entry of ``all_modules``."""

    kind: Kind
    tensors: dict[str, Tensor]

    @property
    def outputs(self) -> int:
        """Feature channels that come out of a residual block or a convolution."""
        return int(self._weight.shape[0])

    @property
    def inputs(self) -> int:
        """Feature channels that go into it."""
        return int(self._weight.shape[1])

    @property
    def _weight(self) -> Tensor:
        names = ("weight", "Conv_0.weight", "Conv2d_0.weight")
        return next(self.tensors[name] for name in names if name in self.tensors)


def in_order(weights: Mapping[str, Tensor]) -> list[str]:
    """Names in the order of ``parameters()``, however the file has them."""

    def rank(name: str) -> tuple[int, int, int]:
        number, _, path = name.removeprefix("all_modules.").partition(".")
        part, _, leaf = path.rpartition(".")
        return int(number), _REGISTERED.index(part) if part else -1, _LEAVES.index(leaf)

    return sorted((name for name in weights if name.startswith("all_modules.")), key=rank)


def foreign_modules(weights: Mapping[str, Tensor]) -> list[ForeignModule]:
    """Group the weights by module; numbers without weights are modules too.

    Raises
    ------
    WeightsError
        If a name or a module is none of this layout.
    """
    try:
        names = in_order(weights)
    except ValueError:
        raise WeightsError(
            "The weights have `all_modules` like score_sde but other parts within; only NCSN++ and "
            "DDPM++ are known."
        ) from None
    grouped: dict[int, dict[str, Tensor]] = {}
    for name in names:
        number, _, path = name.removeprefix("all_modules.").partition(".")
        grouped.setdefault(int(number), {})[path] = weights[name]
    if max(grouped) > 10_000:
        raise WeightsError(f"The weights have a module {max(grouped)}, more than any network.")
    return [_module(number, grouped.get(number, {})) for number in range(max(grouped) + 1)]


def _module(number: int, tensors: dict[str, Tensor]) -> ForeignModule:
    kind = _kind(tensors)
    if kind is None:
        raise WeightsError(
            f"Module {number} of the weights ({', '.join(tensors)}) is none of NCSN++ or DDPM++."
        )
    return ForeignModule(kind, tensors)


def _kind(tensors: Mapping[str, Tensor]) -> Kind | None:
    if not tensors:
        return "nothing"
    convolutions = [tensors[name] for name in tensors if "Conv" in name and "weight" in name]
    if any(weight.dim() != 4 for weight in convolutions):
        return None
    if set(tensors) == {"W"}:
        return "fourier"
    if {"weight", "bias"} == set(tensors):
        plain: dict[int, Kind] = {1: "norm", 2: "linear", 4: "conv"}
        return plain.get(tensors["weight"].dim())
    if {"GroupNorm_0.weight", "Conv_0.weight", "Conv_1.weight"} <= set(tensors):
        outputs, inputs = tensors["Conv_0.weight"].shape[:2]
        resamples = inputs == outputs and "Conv_2.weight" in tensors
        return "resampling-block" if resamples else "residual"
    if {"GroupNorm_0.weight", "NIN_3.W"} <= set(tensors):
        return "attention"
    if set(tensors) == {"Conv_0.weight", "Conv_0.bias"}:
        return "join" if tensors["Conv_0.weight"].shape[-1] == 1 else "conv-resample"
    return "filtered-resample" if set(tensors) == {"Conv2d_0.weight", "Conv2d_0.bias"} else None
