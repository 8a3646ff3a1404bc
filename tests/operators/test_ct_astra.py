"""The ASTRA backend: the same interface, orientation and scale as the native projectors."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest
import torch

from medrecon.errors import MedreconError, UsageError
from medrecon.geometry.ct import CTGeometry
from medrecon.grid import Grid
from medrecon.operators.ct import projector
from tests import contracts
from tests.contracts import Check, adjoint_error, distance, name, random
from tests.operators.test_ct_accuracy import FULL_FAN, FULL_PARALLEL, at_centres, gaussian
from tests.operators.test_ct_contract import CONE, FAN, PARALLEL

pytest.importorskip("astra", reason="the ASTRA toolbox is not installed")

SQUARE = Grid.centred((3, 7, 9), (1.7, 0.8, 0.8), center=(1.5, -2.0, 0.0))
BOTH = pytest.mark.parametrize("geometry", [PARALLEL, FAN], ids=["parallel", "fan"])

# ASTRA computes in single precision, whatever comes in: the checks to 1e-10 are not for it.
IN_SINGLE: tuple[Check, ...] = (
    contracts.it_maps_domain_to_codomain,
    contracts.its_adjoint_is_exact_in_single_precision,
    contracts.its_backward_is_its_adjoint,
    contracts.its_second_derivative_passes_through_the_adjoint,
    contracts.its_gram_is_the_adjoint_after_itself,
    contracts.leading_dimensions_are_a_batch,
    contracts.wrong_shapes_are_refused,
    contracts.the_wrong_kind_of_number_is_refused,
    contracts.it_survives_pickling,
    contracts.precision_follows_the_input,
    contracts.the_device_follows_the_input,
    contracts.the_input_stays_as_it_was,
    contracts.strided_inputs_are_fine,
    contracts.its_adjoint_of_the_adjoint_is_itself,
    contracts.blocks_do_not_see_each_other,
)


@BOTH
@pytest.mark.parametrize("check", IN_SINGLE, ids=name)
def test_astra_keeps_the_contract_in_single_precision(geometry: CTGeometry, check: Check) -> None:
    check(projector(SQUARE, geometry, "astra"))


@pytest.mark.parametrize("geometry", [FULL_PARALLEL, FULL_FAN], ids=["parallel", "fan"])
def test_astra_agrees_with_the_native_projector(geometry: CTGeometry) -> None:
    grid = Grid.centred((1, 90, 80), (1.0, 0.5, 0.5), center=(4.0, -7.0, 0.0))
    native, astra = projector(grid, geometry), projector(grid, geometry, "astra")
    x = at_centres(gaussian(geometry, 6.0), grid)
    assert distance(astra(x), native(x)) < 1e-2  # the models differ: Siddon and Joseph


@BOTH
def test_astras_adjoint_is_as_exact_as_it_says(geometry: CTGeometry) -> None:
    A = projector(SQUARE, geometry, "astra")
    x = random(A.domain, precision=torch.float32)
    assert A.adjoint_is_exact
    assert adjoint_error(A, x, A(x)) < 1e-6


def test_astra_refuses_what_it_cannot_do() -> None:
    with pytest.raises(UsageError, match="cone"):
        projector(SQUARE, CONE, "astra")
    with pytest.raises(UsageError, match="square"):
        projector(replace(SQUARE, spacing=(1.7, 0.8, 0.9)), FAN, "astra")


def test_without_astra_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> Any:
        raise ImportError(module)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MedreconError, match="pip install astra-toolbox"):
        projector(SQUARE, FAN, "astra")
