"""The suites: which scans are measured.

After DM4CT (arXiv:2602.18589: sparse views, limited angles, low dose) and InverseBench
(arXiv:2503.11043: MR by 4 and 8), on volumes instead of slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medrecon.benchmark.case import Case, Lesion, Subject, change
from medrecon.errors import UsageError

_CHEST = "ct_cone_sparse"
_BRAIN = "mr_cartesian_r4"
_VIEWS = (8, 15, 16, 30, 32, 60)
_DETECTOR: dict[str, Any] = {
    "source_to_axis_mm": 1000.0,
    "source_to_detector_mm": 1500.0,
    "columns": 384,
    "column_spacing_mm": 2.1,
}
_BEAMS = ("cone", "fan")
_MR_SLICES = 12

NODULE = Lesion(low=-1000.0, high=-700.0, contrast=700.0, radius_mm=6.0)
METASTASIS = Lesion(low=0.0, high=120.0, contrast=-60.0, radius_mm=8.0)
PLAQUE = Lesion(low=0.25, high=0.7, contrast=0.3, radius_mm=5.0)


def _scan(beam: str, **settings: Any) -> str:
    """Lay the chest scanner's detector under a beam: 1.4 mm columns and 2.5 mm rows at the axis."""
    rows = {"rows": 44, "row_spacing_mm": 3.75} if beam == "cone" else {}
    block = {"kind": beam, "arc_deg": 360.0, "photons": 1.0e5, **_DETECTOR, **rows, **settings}
    return change("acquisition", block)


def _baselines(beam: str) -> str:
    """Name the closed formula of the beam, and total variation, which the sampler starts from."""
    formula = {"method": "fdk" if beam == "cone" else "fbp", "filter": "hann"}
    return change("baselines", [formula, {"method": "tv", "iterations": 60, "weight": 40.0}])


def _chest(suite: str, name: str, beam: str, subject: Subject = "chest", **settings: Any) -> Case:
    return Case(
        name=f"{beam}-{name}",
        suite=suite,
        subject=subject,
        protocol=_CHEST,
        changes=(_scan(beam, **settings), _baselines(beam)),
    )


def _brain(suite: str, name: str, protocol: str = _BRAIN, **settings: Any) -> Case:
    return Case(
        name=name,
        suite=suite,
        subject="brain",
        protocol=protocol,
        changes=tuple(change(f"acquisition.{key}", value) for key, value in settings.items()),
        slices=_MR_SLICES,
    )


def _cartesian(suite: str, pattern: str, acceleration: int) -> Case:
    return _brain(
        suite,
        f"{pattern}-x{acceleration}",
        pattern=pattern,
        acceleration=float(acceleration),
        calibration_lines=24 if acceleration < 8 else 16,
    )


def _with_lesion(case: Case, name: str, lesion: Lesion) -> Case:
    return Case(
        name=name,
        suite="ood",
        subject=case.subject,
        protocol=case.protocol,
        changes=case.changes,
        slices=8,
        lesion=lesion,
    )


def _out_of_distribution() -> tuple[Case, ...]:
    few = [_chest("ood", f"{v}", beam, views=v) for beam, v in (("cone", 32), ("fan", 32))]
    return (
        *(_chest("ood", "head", beam, "head", views=32) for beam in _BEAMS),
        *(_chest("ood", "catphan", beam, "catphan", views=32) for beam in _BEAMS),
        _with_lesion(few[0], "cone-nodule", NODULE),
        _with_lesion(few[1], "fan-nodule", NODULE),
        _with_lesion(few[0], "cone-metastasis", METASTASIS),
        _with_lesion(_cartesian("ood", "uniform", 4), "mr-plaque", PLAQUE),
    )


SUITES: dict[str, tuple[Case, ...]] = {
    "ct-sparse": tuple(
        _chest("ct-sparse", f"{views}", beam, views=views) for beam in _BEAMS for views in _VIEWS
    ),
    "ct-limited": tuple(
        _chest("ct-limited", f"{arc}deg", beam, views=arc, arc_deg=float(arc))
        for beam in _BEAMS
        for arc in (90, 120)
    ),
    "ct-low-dose": tuple(
        _chest(
            "ct-low-dose",
            f"{photons:g}-quanta",
            beam,
            views=240,
            photons=photons,
            electronic_noise_quanta=3.0,
        )
        for beam in _BEAMS
        for photons in (2.0e4, 5.0e3)
    ),
    "mr-cartesian": tuple(
        _cartesian("mr-cartesian", pattern, acceleration)
        for pattern in ("uniform", "random")
        for acceleration in (4, 8)
    ),
    "mr-poisson": tuple(_cartesian("mr-poisson", "poisson", r) for r in (4, 8)),
    "mr-radial": tuple(
        _brain("mr-radial", f"radial-{spokes}", "mr_radial", spokes=spokes) for spokes in (64, 32)
    ),
    "ood": _out_of_distribution(),
}
"""Name of the suite to its cases; views step by 1 degree over limited arcs."""


def cases_of(suite: str, names: Sequence[str] = ()) -> tuple[Case, ...]:
    """Pick the cases of a suite (``all``: of every one), or those of the given names.

    Raises
    ------
    UsageError
        If there is no such suite or case; the message has those there are.

    Examples
    --------
    >>> [case.name for case in cases_of("mr-poisson")]
    ['poisson-x4', 'poisson-x8']
    """
    if suite != "all" and suite not in SUITES:
        raise UsageError(f"there is no suite {suite!r}; use all or one of {', '.join(SUITES)}.")
    found = [c for name, cases in SUITES.items() if suite in ("all", name) for c in cases]
    known = [case.name for case in found]
    for name in names:
        if name not in known:
            raise UsageError(f"suite {suite} has no case {name!r}; it has {', '.join(known)}.")
    return tuple(case for case in found if not names or case.name in names)
