"""The architecture of a score_sde network, read off its modules one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medrecon.errors import WeightsError
from medrecon.importing.ncsnpp_modules import ForeignModule

_UNKNOWN = "The modules of the weights are arranged in no way that NCSN++ or DDPM++ has"
_LEARNED = ("conv-resample", "filtered-resample")


def infer_shape(modules: Sequence[ForeignModule]) -> dict[str, Any]:
    """Infer what shapes tell of the settings of :class:`~medrecon.priors.networks.ncsnpp.NCSNpp`.

    ``taps`` is whether resampling filters, ``None`` where no weight depends on it.

    Raises
    ------
    WeightsError
        If the modules are arranged in another way.
    """
    try:
        return _Walk(modules).settings()
    except (IndexError, StopIteration, ZeroDivisionError):
        raise WeightsError(f"{_UNKNOWN}; some are missing.") from None


class _Walk:
    """A position in the list of modules."""

    def __init__(self, modules: Sequence[ForeignModule]) -> None:
        self.modules, self.position = modules, 0

    def settings(self) -> dict[str, Any]:
        fourier = self._skip("fourier") == 1
        conditional = self._skip("linear") == 2
        head = self._take("conv")
        block, blocks, levels = self._extent()
        shape: dict[str, Any] = {
            "channels": head.inputs,
            "width": head.outputs,
            "multipliers": (),
            "blocks": blocks,
            "attention": (),
            "block": block,
            "taps": None,
            "resample_conv": True,
            "image_in": "none",
            "image_in_joins": "sum",
            "image_out": "none",
            "fourier": fourier,
            "conditional": conditional,
        }
        for level in range(levels):
            self._encode(shape, level)
            if level < levels - 1:
                self._shrink(shape)
        self.position += 3
        if levels > 1:
            self._decode(shape)
        return shape

    def _extent(self) -> tuple[str, int, int]:
        """Sort of block, blocks per level, and levels, from the number of residual blocks.

        With b blocks on each of L levels there are L b going down, 2 in the middle and L (b + 1)
        going up; the first level's are those before anything else comes.
        """
        kinds = [module.kind for module in self.modules[self.position :]]
        first = next(k for k, kind in enumerate(kinds) if kind not in ("residual", "attention"))
        total, blocks = kinds.count("residual"), kinds[:first].count("residual")
        levels, rest = (1, 0) if blocks == total else divmod(total - 2, 2 * blocks + 1)
        blocks = (total - 3) // 2 if blocks == total else blocks
        if rest or blocks < 1:
            raise WeightsError(f"{_UNKNOWN}: {total} residual blocks.")
        linear = any("NIN_0.W" in m.tensors for m in self.modules if m.kind == "residual")
        gives = "resampling-block" in kinds or (levels == 1 and not linear)
        return ("biggan" if gives else "ddpm"), blocks, levels

    def _encode(self, shape: dict[str, Any], level: int) -> None:
        for _ in range(shape["blocks"]):
            features = self._take("residual").outputs
            if self._skip("attention") and level not in shape["attention"]:
                shape["attention"] += (level,)
        if features % shape["width"]:
            raise WeightsError(f"{_UNKNOWN}: {features} features over {shape['width']}.")
        shape["multipliers"] += (features // shape["width"],)

    def _shrink(self, shape: dict[str, Any]) -> None:
        if shape["block"] == "biggan":
            self._take("resampling-block")
        else:
            self._see_filter(shape, self._take(*_LEARNED, "nothing"))
            shape["resample_conv"] = self.modules[self.position - 1].kind != "nothing"
        if self._next() == "join":
            joined = self._take("join").outputs
            after = self.modules[self.position].inputs
            shape["image_in"] = "input_skip"
            shape["image_in_joins"] = "sum" if after == joined else "cat"
        elif self._next() in _LEARNED:
            shape["image_in"] = "residual"
            self._see_filter(shape, self._take(*_LEARNED))

    def _decode(self, shape: dict[str, Any]) -> None:
        """Look at the end of the coarsest level only: the others are alike."""
        for _ in range(shape["blocks"] + 1):
            self._take("residual")
        self._skip("attention")
        if self._next() == "norm":
            self._take("norm")
            if self._take("conv").outputs != shape["channels"]:
                raise WeightsError("The network has `progressive: residual`, which is not known.")
            shape["image_out"] = "output_skip"

    def _see_filter(self, shape: dict[str, Any], module: ForeignModule) -> None:
        if module.kind in _LEARNED:
            shape["taps"] = module.kind == "filtered-resample"

    def _next(self) -> str:
        return self.modules[self.position].kind

    def _skip(self, kind: str) -> int:
        start = self.position
        while self._next() == kind:
            self.position += 1
        return self.position - start

    def _take(self, *kinds: str) -> ForeignModule:
        module = self.modules[self.position]
        if module.kind not in kinds:
            raise WeightsError(f"{_UNKNOWN}: module {self.position} is a {module.kind}.")
        self.position += 1
        return module
