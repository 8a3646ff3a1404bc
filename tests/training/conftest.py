"""A recipe and slices so small that a run takes a second."""

import pytest
import torch

from medrecon.training.settings import Recipe
from medrecon.training.slices import Series, Slices


@pytest.fixture
def small():
    """Build the recipe of a small network on slices of 32 x 32 pixels."""

    def recipe(modality="CT", **parts):
        settings = {
            "schema_version": 1,
            "name": "small",
            "title": "Small",
            "modality": modality,
            "data": {"train": ["none"], "size": 32},
            "network": {"widths": [8, 16], "blocks": 1},
            "patches": {"pixels": 2048, "stages": [{"until": 1.0, "sizes": [16, 32]}]},
            "augment": {"turn": 0.5},
            "optimiser": {"learning_rate": 3e-3, "warmup": 3},
            "budget": {"steps": 8},
            "validation": {"every_steps": 4, "slices": 2},
        }
        if modality == "MR":
            settings["augment"] = {"contrast": 0.5, "coarser": 0.5, "bias": 0.5, "flip": 0.5}
        for key, value in parts.items():
            settings[key] = {**settings[key], **value} if isinstance(value, dict) else value
        return Recipe.model_validate(settings)

    return recipe


@pytest.fixture
def blobs():
    """Build smooth slices of two patients in the prior's unit, alike from slice to slice."""

    def series(modality="CT", size=32, patients=2, slices=5):
        generator = torch.Generator().manual_seed(3)
        found = []
        for patient in range(patients):
            coarse = torch.rand(1, 1, slices // 2 + 1, 5, 5, generator=generator)
            values = torch.nn.functional.interpolate(
                coarse, (slices, size, size), mode="trilinear", align_corners=True
            )[0, 0]
            found.append(Series(f"p{patient}", 2 * values - 1 if modality == "CT" else values, 1.4))
        return Slices(found, correlation=0.5, reach=2)

    return series
