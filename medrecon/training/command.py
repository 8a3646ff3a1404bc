"""A recipe and a folder: everything between them, in one call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import load_file

from medrecon.errors import InconsistentError, OutputError
from medrecon.priors.card import WEIGHTS_FILE
from medrecon.training.data import Images, load_images
from medrecon.training.denoising import CleanSet, anatomy_set, patients_set
from medrecon.training.downstream import Reconstruction
from medrecon.training.export import Measured, export_prior
from medrecon.training.judge import Judge
from medrecon.training.run import CHECKPOINT, Report, train
from medrecon.training.settings import Recipe
from medrecon.training.slices import Series, Slices
from medrecon.training.sources import Anatomy, anatomy_of, source_of
from medrecon.training.state import network_of, read_facts

_ANATOMY = "procedural anatomy"
_DETAILED = "detailed phase"
_BODIES = 4


def run_recipe(recipe: Recipe, folder: Path, *, device: str = "cpu") -> Iterator[Report]:
    """Train a prior by a recipe: read, train, score, and write the prior with its card.

    Parameters
    ----------
    recipe
        The run.
    folder
        Where the prior goes; made if it is not there. If it holds a checkpoint, the run goes on.
    device
        Torch device.

    Yields
    ------
    Report
        After every step; see :func:`medrecon.training.run.train`.

    Raises
    ------
    MedreconError
        If images, recipe and folder do not fit each other.
    """
    images = load_images(recipe)
    anatomy = anatomy_of(recipe, 1.0)
    held_out = images.validation or _bodies(anatomy)
    clean = _clean(held_out, recipe)
    judge = Judge(recipe, clean, _reconstruction(recipe, held_out, device))
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}.") from None
    yield from train(recipe, source_of(recipe, images.train), judge, folder, device=device)
    network = network_of(recipe)
    state = load_file(folder / WEIGHTS_FILE)
    network.load_state_dict({key: value.float() for key, value in state.items()})
    measured = Measured(
        validation=clean,
        ood=_unlike(recipe, images, held_out, anatomy),
        pixel_mm=None if images.train is None else images.train.pixel_mm,
    )
    export_prior(
        network, folder, recipe, measured, training=recipe.training or _in_words(recipe, folder)
    )


def _bodies(anatomy: Anatomy) -> Slices:
    """Procedural bodies in the place of patients, where there are none."""
    bodies = [anatomy.unseen(number) for number in range(_BODIES)]
    return Slices(
        [Series(f"body {i}", body, anatomy.pixel_mm) for i, body in enumerate(bodies)],
        correlation=0.0,
        reach=1,
    )


def _clean(images: Slices, recipe: Recipe) -> CleanSet:
    shapes = {tuple(one.slices.shape[-2:]) for one in images.series}
    if len(shapes) > 1:
        raise InconsistentError("Validation slices differ in size; set data.size.")
    return patients_set(images, recipe.validation.slices, recipe)


def _reconstruction(recipe: Recipe, images: Slices, device: str) -> Reconstruction | None:
    if recipe.downstream is None:
        return None
    return Reconstruction(recipe.downstream, images, recipe, device)


def _unlike(
    recipe: Recipe, images: Images, held_out: Slices, anatomy: Anatomy
) -> dict[str, CleanSet]:
    """Name the sets that the prior does not know."""
    count = recipe.validation.slices
    sets = {name: patients_set(found, count, recipe) for name, found in images.ood.items()}
    if recipe.modality == "MR" and images.validation is not None:
        sets[_DETAILED] = patients_set(held_out, count, recipe, detailed=True)
    if not recipe.data.synthetic:
        sets[_ANATOMY] = anatomy_set(anatomy, min(count, 2 * _BODIES))
    return sets


def _in_words(recipe: Recipe, folder: Path) -> str:
    facts = read_facts(folder / CHECKPOINT)
    best = max(facts["history"], key=lambda row: float(row["value"]))
    chosen = "reconstructs" if recipe.downstream else "denoises"
    optimiser = recipe.optimiser
    start = f" from {Path(recipe.network.initial).name}" if recipe.network.initial else ""
    return (
        f"{facts['step']} steps of {recipe.patches.pixels} pixels{start} in "
        f"{facts['seconds'] / 60:.0f} minutes, AdamW {optimiser.learning_rate:g} with cosine "
        f"decay, patches with position channels, procedural anatomy {recipe.data.synthetic:.0%}, "
        f"averaged weights of step {best['step']}, which {chosen} best; seed {recipe.seed}"
    )
