"""Training of slice priors: denoising score matching on patches with position channels."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from medrecon.errors import InconsistentError, OutputError, WeightsError
from medrecon.priors.network import EDM, UNet, position_channels

VALIDATION_SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
SIGMA_DATA = {"ct": 0.45, "mr": 0.25}
"""Deviation of typical clean slices in the prior's range, by modality."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What to train and for how long; the schedule follows the clock, so a run ends on time."""

    modality: Literal["ct", "mr"]
    minutes: float
    widths: tuple[int, ...] = (48, 96, 160)
    blocks: int = 2
    sigma_data: float = 0.45
    learning_rate: float = 8e-4
    warmup_steps: int = 300
    pixels_per_step: int = 16 * 64 * 64
    sigma_range: tuple[float, float] = (0.004, 12.0)
    log_sigma: tuple[float, float] = (-1.4, 1.4)
    ema_half_life: float = 0.02
    validate_every: int = 500
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """One report of a training run: where it stands and how well it denoises."""

    step: int
    seconds: float
    loss: float
    psnr: dict[float, float] = field(default_factory=dict)


def smooth_phase(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw a random smooth phase map in rad: constant, linear and low-order bumps."""
    height, width = shape
    constant = 2 * math.pi * torch.rand(1, generator=generator)
    coarse = torch.randn(1, 1, 5, 5, generator=generator) * torch.rand(1, generator=generator) * 2
    bumps = nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    tilt = torch.randn(2, generator=generator) * 1.5
    return constant + bumps[0, 0] + (position_channels(*shape) * tilt[:, None, None]).sum(0)


class PatchSampler:
    """Draws batches of clean patches with their positions in the slice."""

    def __init__(self, slices: Tensor, modality: str, generator: torch.Generator) -> None:
        self.slices = slices
        self.complex = modality == "mr"
        self.generator = generator

    def _integer(self, high: int) -> int:
        return int(torch.randint(0, high, (1,), generator=self.generator))

    def _uniform(self) -> float:
        return float(torch.rand(1, generator=self.generator))

    def _slice(self) -> Tensor:
        image = self.slices[self._integer(len(self.slices))]
        if self._uniform() < 0.5:
            image = image.flip(1)
        if not self.complex:
            return image[None]
        if self._uniform() < 0.3:
            image = image.flip(0)
        if self._uniform() < 0.4:  # coarser scans: the same head on fewer pixels
            size = 8 * (16 + self._integer(16))
            image = nn.functional.interpolate(
                image[None, None], (size, size), mode="bilinear", antialias=True
            )[0, 0]
        image = image * (0.6 + 0.7 * self._uniform())
        phase = smooth_phase((image.shape[0], image.shape[1]), self.generator)
        return torch.stack([image * phase.cos(), image * phase.sin()])

    def __call__(self, count: int, size: int) -> tuple[Tensor, Tensor]:
        """Return ``count`` patches of ``size`` x ``size`` pixels and their position channels."""
        patches, positions = [], []
        for _ in range(count):
            image = self._slice()
            height, width = image.shape[1:]
            side = min(size, height, width)
            for _ in range(8):  # mostly air teaches nothing: try a few times for content
                i, j = self._integer(height - side + 1), self._integer(width - side + 1)
                patch = image[:, i : i + side, j : j + side]
                if patch.std() > 0.02:
                    break
            if side < size:
                pad = (0, size - side, 0, size - side)
                patch = nn.functional.pad(patch, pad, mode="replicate")
                grid = nn.functional.pad(position_channels(height, width), pad, mode="replicate")
                i = j = 0
            else:
                grid = position_channels(height, width)
            patches.append(patch)
            positions.append(grid[:, i : i + size, j : j + size])
        return torch.stack(patches), torch.stack(positions)


def validation_batch(slices: Tensor, modality: str, count: int = 16) -> Tensor:
    """Take every ninth slice, at most ``count``; MR slices get a fixed smooth phase."""
    chosen = slices[::9][:count]
    if modality == "ct":
        return chosen[:, None]
    generator = torch.Generator().manual_seed(1)
    shape = (chosen.shape[-2], chosen.shape[-1])
    phases = torch.stack([smooth_phase(shape, generator) for _ in chosen])
    return torch.stack([chosen * phases.cos(), chosen * phases.sin()], dim=1)


@torch.no_grad()
def validate(model: EDM, images: Tensor) -> dict[float, float]:
    """PSNR in dB (data range 2) of the denoised images at each validation sigma."""
    position = position_channels(images.shape[-2], images.shape[-1])
    scores = {}
    for sigma in VALIDATION_SIGMAS:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
        noisy = images + sigma * noise
        clean = torch.cat(
            [
                model(part, torch.full((len(part),), sigma), position.expand(len(part), -1, -1, -1))
                for part in torch.split(noisy, 4)
            ]
        )
        scores[sigma] = round(float(10 * torch.log10(4 / ((clean - images) ** 2).mean())), 2)
    return scores


def _draw_sigma(plan: TrainingPlan, count: int, generator: torch.Generator) -> Tensor:
    """Log-normal noise levels, one in ten log-uniform so that the ends are seen too."""
    low, high = plan.sigma_range
    mean, std = plan.log_sigma
    sigma = (mean + std * torch.randn(count, generator=generator)).exp().clamp(low, high)
    uniform = low * (high / low) ** torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.1, uniform, sigma)


def _patch_size(progress: float, step: int) -> int:
    """Small patches first; later larger ones, so that normalisation sees what inference sees."""
    if progress > 0.85:
        return (64, 128, 192, 256)[step % 4]
    if progress > 0.5:
        return (64, 128)[step % 2]
    return 64


def _save(path: Path, model: EDM, ema: EDM, optimizer: torch.optim.AdamW, step: int) -> None:
    tensors = {f"ema.{k}": v.clone() for k, v in ema.network.state_dict().items()}
    tensors |= {f"model.{k}": v.clone() for k, v in model.network.state_dict().items()}
    for i, state in enumerate(optimizer.state.values()):
        tensors[f"m.{i}"] = state["exp_avg"].contiguous()
        tensors[f"v.{i}"] = state["exp_avg_sq"].contiguous()
    part = path.with_suffix(".part")
    try:
        save_file({k: v.contiguous() for k, v in tensors.items()}, part, {"step": str(step)})
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"The checkpoint {path} cannot be written: {error}.") from None


def _resume(path: Path, model: EDM, ema: EDM, optimizer: torch.optim.AdamW) -> int:
    try:
        return _load(path, model, ema, optimizer)
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError):
        raise WeightsError(
            f"The checkpoint {path} is damaged or of another network; give its widths and blocks, "
            "or choose another output."
        ) from None


def _load(path: Path, model: EDM, ema: EDM, optimizer: torch.optim.AdamW) -> int:
    with safe_open(path, "pt") as file:
        keys = set(file.keys())
        for prefix, target in (("model", model), ("ema", ema)):
            state = {k: file.get_tensor(f"{prefix}.{k}") for k in target.network.state_dict()}
            target.network.load_state_dict(state)
        step = int(file.metadata()["step"])
        for i, parameter in enumerate(model.parameters()):
            if f"m.{i}" in keys:
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": file.get_tensor(f"m.{i}"),
                    "exp_avg_sq": file.get_tensor(f"v.{i}"),
                }
    return step


def train(
    plan: TrainingPlan, slices: Tensor, validation: Tensor, checkpoint: Path, device: str = "cpu"
) -> Iterator[Progress]:
    """Train a prior; yields a report at every validation and leaves its checkpoint behind.

    Parameters
    ----------
    plan
        The recipe.
    slices
        Clean slices in the prior's range, shape ``(slices, y, x)``.
    validation
        Clean images of other patients, shape ``(batch, channels, y, x)``.
    checkpoint
        A safetensors file; where it exists the run resumes from it (with a fresh clock).
    device
        Where to train.

    Raises
    ------
    InconsistentError
        If the validation images do not fit the network's stride.
    WeightsError
        If the checkpoint is damaged or of another network.
    OutputError
        If the checkpoint cannot be written.
    """
    torch.manual_seed(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    channels = 2 if plan.modality == "mr" else 1
    model = EDM(UNet(channels, plan.widths, plan.blocks), plan.sigma_data).to(device)
    stride, image = model.network.stride, tuple(validation.shape[-2:])
    if any(n % stride for n in image):
        raise InconsistentError(
            f"Validation slices of {image[0]} x {image[1]} pixels do not fit a network of "
            f"{len(plan.widths)} levels; pad or crop them to multiples of {stride}."
        )
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), plan.learning_rate, betas=(0.9, 0.99))
    step = _resume(checkpoint, model, ema, optimizer) if checkpoint.exists() else 0
    first = step
    sampler = PatchSampler(slices, plan.modality, generator)
    start, loss_mean = time.monotonic(), float("nan")
    progress = 0.0
    while progress < 1:
        elapsed = time.monotonic() - start
        progress = elapsed / (60 * plan.minutes)
        warm = min(1.0, (step - first + 1) / plan.warmup_steps)
        rate = plan.learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1)))
        for group in optimizer.param_groups:
            group["lr"] = max(rate, 0.002 * plan.learning_rate)
        size = _patch_size(progress, step)
        x, position = sampler(max(1, plan.pixels_per_step // size**2), size)
        sigma = _draw_sigma(plan, len(x), generator)
        noisy = x + sigma.view(-1, 1, 1, 1) * torch.randn(x.shape, generator=generator)
        x, position, sigma, noisy = (v.to(device) for v in (x, position, sigma, noisy))
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            denoised = model(noisy, sigma, position).float()
        weight = (sigma**2 + plan.sigma_data**2) / (sigma * plan.sigma_data) ** 2
        loss = (weight.view(-1, 1, 1, 1) * (denoised - x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        rate_of_steps = (step - first) / max(progress, 1e-6)  # steps in the whole run
        decay = 0.5 ** (1 / max(1.0, plan.ema_half_life * min(rate_of_steps, 10 * step)))
        with torch.no_grad():
            for a, b in zip(ema.parameters(), model.parameters(), strict=True):
                a.lerp_(b, 1 - decay)
        value = float(loss.detach())
        loss_mean = value if math.isnan(loss_mean) else 0.99 * loss_mean + 0.01 * value
        if step % plan.validate_every == 0 or progress >= 1:
            _save(checkpoint, model, ema, optimizer, step)
            psnr = validate(copy.deepcopy(ema).cpu(), validation)
            yield Progress(step, elapsed, loss_mean, psnr)
