"""A file of weights of another project becomes a prior of ours, or is refused."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from medrecon.errors import UsageError, WeightsError
from medrecon.importing.checkpoint import Checkpoint, check_numbers, read_checkpoint
from medrecon.importing.layout import Config, Recognised, State
from medrecon.importing.phantom import channels_of, phantom, slices_of
from medrecon.importing.probe import Told, Verdict, probe
from medrecon.importing.trial import Trial, psnr
from medrecon.io.outputs import OutputFolder
from medrecon.priors.card import Card, ForeignArchitecture, Intensity, Level, Source, write_card
from medrecon.priors.slicewise import Slicewise
from medrecon.priors.weights import save_weights, stored
from medrecon.priors.wrapped import Wrapped

_LAYOUTS = ("guided", "monai", "ncsnpp", "diffusers")
_LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_PROBED_SIZE = 128
_MEASURED_SIZE = 256
_MEASURED_SLICES = 1
_PERCENTILE = 99.5
_LIMITATIONS = (
    "Imported: knows what its training data show, which medrecon does not know. Its errors, by "
    "which the data are weighed against it, were measured on {on}. It can invent structure where "
    "the measurements do not decide. Research use, not for diagnosis."
)


@dataclass(frozen=True)
class Request:
    """What the user says of a prior to import."""

    modality: Literal["CT", "MR"]
    name: str
    window_hu: tuple[float, float] | None = None
    """CT: the HU at both ends of the range of the network's images."""
    title: str = "Imported prior"
    licence: str = "not known; see where the weights came from"
    sources: tuple[Source, ...] = ()
    pixel_mm: tuple[float, float] | None = None
    told: Told = field(default_factory=Told)
    size: int | None = None
    """Pixels a side of its training slices; phantoms are drawn as large."""
    config: Config = field(default_factory=dict)
    """Settings beside the file, such as ``num_head_channels``."""
    allow_pickle: bool = False
    image: Path | None = None
    """On which the errors of the card are measured, instead of on phantoms."""

    @property
    def intensity(self) -> Intensity:
        """How image values become the prior's.

        Raises
        ------
        UsageError
            If a CT prior has no window, or one that does not rise.
        """
        if self.modality == "MR":
            return Intensity(percentile=_PERCENTILE)
        if self.window_hu is None:
            raise UsageError(
                "which HU the ends of the network's range mean is not in any file; give "
                "--window, for instance --window -1000 1600."
            )
        if not self.window_hu[0] < self.window_hu[1]:
            raise UsageError("--window needs the smaller HU first.")
        return Intensity(window_hu=self.window_hu)


def recognise(state: State, config: Config | None) -> Recognised:
    """Recognise weights of any known layout by their names and shapes.

    Raises
    ------
    WeightsError
        If they are of none, or of one that cannot serve.
    """
    for name in _LAYOUTS:
        found: Recognised | None = import_module(f"medrecon.importing.{name}").recognise(
            state, config
        )
        if found is not None:
            return found
    some = ", ".join(list(state)[:3])
    raise WeightsError(
        "The weights are of no known layout (guided-diffusion, MONAI DiffusionModelUNet, score_sde "
        f"NCSN++, diffusers UNet2DModel); they start with {some}."
    )


def import_prior(path: Path, folder: Path, request: Request) -> Generator[Trial, None, Card]:
    """Turn weights into a prior folder that ``prior.name`` takes.

    Parameters
    ----------
    path
        See :func:`~medrecon.importing.checkpoint.read_checkpoint`.
    folder
        To be made.
    request
        What the file does not say.

    Yields
    ------
    Trial
        Readings of the network as they are tried.

    Returns
    -------
    Card
        Of the prior.

    Raises
    ------
    MedreconError
        If the file cannot be read, the layout is not known, or the self-test fails; nothing is
        written then.
    """
    intensity = request.intensity
    with OutputFolder(folder) as part:
        checkpoint = read_checkpoint(path, allow_pickle=request.allow_pickle)
        found = _found(checkpoint, request, path.name)
        small = _size(found, _PROBED_SIZE)
        verdict = yield from probe(found, request.told, channels_of(phantom(intensity, 1, small)))
        network = found.network(verdict.trial.overrides)
        diffusion = verdict.trial.diffusion
        wrapped = Wrapped(network, diffusion, complex_images=request.modality == "MR")
        images, on = _images(request, intensity, _size(found, _MEASURED_SIZE))
        levels, seconds = _measure(Slicewise(wrapped, (), batch=1), images, _allowed(wrapped))
        card = Card(
            name=request.name,
            title=request.title,
            modality=request.modality,
            parametrisation=diffusion.parametrisation,
            architecture=ForeignArchitecture(
                kind=found.kind,
                channels=1 if found.channels == 1 else 2,
                settings={**found.settings, **verdict.trial.overrides},
            ),
            intensity=intensity,
            sigma_data=float(channels_of(images).std()),
            sigma_range=_allowed(wrapped),
            pixel_mm=request.pixel_mm,
            validation=levels,
            training=_history(path.name, found.layout, verdict),
            data=request.sources or (Source(name="not known", licence="not known"),),
            licence=request.licence,
            limitations=_LIMITATIONS.format(on=on),
            sha256=save_weights(network, part),
            diffusion=diffusion,
            assumptions=found.notes,
            parameters=sum(value.numel() for value in network.parameters()),
            seconds_per_slice=float(f"{seconds:.2g}"),
        )
        write_card(card, part)
    return card


def _found(checkpoint: Checkpoint, request: Request, name: str) -> Recognised:
    """Recognise the weights, rounded as they will be kept, so that what is tried is what is."""
    check_numbers(checkpoint.state, name)
    config = {**checkpoint.config, **request.config}
    if request.told.range is not None:
        # A network that gets images in [0, 1] and centres them itself looks the same.
        config.setdefault("centered", request.told.range[0] < 0)
    found = recognise(checkpoint.state, config)
    if request.modality == "CT" and found.channels == 2:
        raise WeightsError(f"The {found.layout} network is of complex images; CT is real.")
    rounded = {
        key: stored(value).float() if value.is_floating_point() else value
        for key, value in found.state.items()
    }
    return replace(found, state=rounded, size=request.size or found.size)


def _size(found: Recognised, size: int) -> int:
    """Pixels a side of an image to try, a multiple of the network's stride."""
    stride = found.network().stride
    wanted = min(size, found.size or size)
    return int(-(-wanted // stride) * stride)  # type: ignore[operator]


def _images(request: Request, intensity: Intensity, size: int) -> tuple[Tensor, str]:
    if request.image is not None:
        return slices_of(request.image, intensity, _MEASURED_SLICES), request.image.name
    return phantom(intensity, _MEASURED_SLICES, size), "synthetic anatomy"


def _allowed(wrapped: Wrapped) -> tuple[float, float]:
    """Noise levels of training in the prior's unit."""
    low, high = wrapped.diffusion.schedule.range
    return low / wrapped.scale, high / wrapped.scale


def _measure(
    denoiser: Slicewise, images: Tensor, allowed: tuple[float, float]
) -> tuple[tuple[Level, ...], float]:
    """Denoise clean images at several noise levels; and the seconds a slice of 256 x 256 takes."""
    levels, start = [], time.perf_counter()
    sigmas = [sigma for sigma in _LEVELS if allowed[0] <= sigma <= allowed[1]]
    for sigma in sigmas or [allowed[1]]:
        noise = torch.randn(
            (*images.shape, 2 if images.is_complex() else 1),
            generator=torch.Generator().manual_seed(1),
        )
        added = torch.view_as_complex(noise) if images.is_complex() else noise[..., 0]
        clean = denoiser(images + sigma * added, sigma)
        ratio = psnr(channels_of(clean), channels_of(images))
        levels.append(
            Level(sigma=sigma, psnr_db=round(ratio, 2), mse=float(f"{4 * 10 ** (-ratio / 10):.4e}"))
        )
    spent = (time.perf_counter() - start) / len(levels) / len(images)
    return tuple(levels), spent * 256**2 / (images.shape[-1] * images.shape[-2])


def _history(name: str, layout: str, verdict: Verdict) -> str:
    gains = ", ".join(f"{g:.1f}" for g in verdict.trial.gains)
    return (
        f"Not by medrecon. Imported from {name}, {layout}; read as "
        f"{verdict.trial.in_words()}; gains {gains} dB on a phantom, noise it sees of mean "
        f"{verdict.noise_mean:.2f} and deviation {verdict.noise_deviation:.2f}"
    )


def describe(card: Card) -> dict[str, Any]:
    """Facts of an imported prior for people, in a line each."""
    facts: dict[str, Any] = {}
    if card.diffusion is not None:
        facts["read as"] = Trial(card.diffusion).in_words()
    if card.parameters is not None:
        facts["parameters"] = f"{card.parameters / 1e6:.2f} million"
    if card.assumptions:
        facts["assumed"] = "; ".join(note.rstrip(".") for note in card.assumptions)
    facts["denoises"] = ", ".join(f"{v.psnr_db:.1f} dB at {v.sigma:g}" for v in card.validation)
    facts["seconds"] = f"{card.seconds_per_slice} per slice of 256 x 256"
    return facts
