"""The text file beside an array that says what the array cannot: axes, lengths, places, files.

``scan.yaml`` (or ``scan.json``) stands beside ``scan.npy`` or ``scan.cfl``. It is strict: unknown
keys, wrong types and contradictions are errors with the nearest valid name, nothing is guessed.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from medrecon import yaml_loader
from medrecon.errors import InconsistentError, ProtocolError, UnreadableError
from medrecon.geometry.trajectory import Library
from medrecon.grid import Grid, Triple

SUFFIXES = (".yaml", ".yml", ".json")
"""What the file beside the array may be called."""

Axis = Literal["contrast", "phase", "repetition", "set", "z", "coil", "y", "x", "shot", "sample"]

_Positive = Annotated[float, Field(gt=0, lt=1e6, allow_inf_nan=False)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Size = Annotated[int, Field(gt=0, le=4096)]
_Name = Annotated[str, Field(pattern=r"^[^/\\:$~]{1,200}$")]
# lists become tuples; everything inside them stays strict
_Loose = Field(strict=False)
_Lengths = Annotated[tuple[_Positive, _Positive, _Positive], _Loose]
_Place = Annotated[tuple[_Finite, _Finite, _Finite], _Loose]
_EXPECTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "tuple_type": "a list",
    "string_pattern_mismatch": "the name of a file in the same folder",
}


class Sidecar(BaseModel):
    """What may stand beside an array of k-space. All keys are optional.

    Parameters
    ----------
    axes
        Names of the array's axes in its order: ``z`` (slices or partitions), ``coil``, ``y``,
        ``x``; along a trajectory ``shot`` and ``sample`` instead of the last two; and
        ``contrast``, ``phase``, ``repetition`` and ``set``, whose entries are images.
    encoding
        ``2d``: slice by slice; ``3d``: z is encoded too.
    spacing_mm, fov_mm
        Distance of voxels, or the whole field of view, along ``(z, y, x)``; one of the two.
    matrix
        Voxels along ``(z, y, x)`` to reconstruct, where k-space lies on a trajectory.
    origin_mm, center_mm
        LPS position of the centre of voxel (0, 0, 0), or of the middle of the volume; one of them.
    directions
        LPS unit vectors along which the z, the y and the x index grow.
    trajectory_file, trajectory_library
        NumPy file with the positions of the samples, and whose convention it follows (see
        :mod:`medrecon.geometry.trajectory`; ``medrecon`` is ours).
    maps_file
        NumPy file with coil sensitivities, ``(z, coil, y, x)`` for 2D, ``(coil, z, y, x)`` for 3D
        encoding, with a leading axis of sets where there are several.
    noise_std
        Root of ``E|n|^2`` of a sample, in the unit of the array.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    axes: Annotated[tuple[Axis, ...], _Loose] | None = None
    encoding: Literal["2d", "3d"] | None = None
    spacing_mm: _Lengths | None = None
    fov_mm: _Lengths | None = None
    matrix: Annotated[tuple[_Size, _Size, _Size], _Loose] | None = None
    origin_mm: _Place | None = None
    center_mm: _Place | None = None
    directions: Annotated[tuple[_Place, _Place, _Place], _Loose] | None = None
    trajectory_file: _Name | None = None
    trajectory_library: Library | Literal["medrecon"] | None = None
    maps_file: _Name | None = None
    noise_std: _Positive | None = None

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        for a, b in (("spacing_mm", "fov_mm"), ("origin_mm", "center_mm")):
            if getattr(self, a) is not None and getattr(self, b) is not None:
                raise ValueError(f"{b}: contradicts or repeats {a}, give one of the two")
        if self.axes is not None and len(set(self.axes)) < len(self.axes):
            raise ValueError("axes: every axis may be named once")
        if (self.trajectory_file is None) != (self.trajectory_library is None):
            raise ValueError("trajectory_file: goes together with trajectory_library")
        return self

    @property
    def assumed(self) -> tuple[str, ...]:
        """What :meth:`grid` assumes because nothing is said, in words."""
        said = {
            "voxels of 1 mm": self.spacing_mm or self.fov_mm,
            "an axial stack": self.directions,
            "the middle at the isocentre": self.origin_mm or self.center_mm,
        }
        return tuple(words for words, value in said.items() if value is None)

    def grid(self, shape: tuple[int, int, int], path: Path) -> Grid:
        """Place a volume; see :attr:`assumed` for what is not said.

        Parameters
        ----------
        shape
            Voxels ``(z, y, x)``.
        path
            The file, named in errors.

        Raises
        ------
        InconsistentError
            If the directions are not orthonormal.
        """
        spacing: Triple = self.spacing_mm or (1.0, 1.0, 1.0)
        if self.fov_mm is not None:
            z, y, x = (length / n for length, n in zip(self.fov_mm, shape, strict=True))
            spacing = (z, y, x)
        directions = self.directions or ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
        try:
            grid = Grid(shape=shape, spacing=spacing, origin=(0, 0, 0), directions=directions)
        except InconsistentError as error:
            raise InconsistentError(f"{path}: {error}") from None
        if self.origin_mm is not None:
            return grid.shifted(self.origin_mm)
        x, y, z = (
            wanted - there
            for wanted, there in zip(self.center_mm or (0, 0, 0), grid.center, strict=True)
        )
        return grid.shifted((x, y, z))


def sidecar_path(path: Path) -> Path | None:
    """Find the text file beside an array; ``None`` where there is none.

    Raises
    ------
    InconsistentError
        If there are several.
    """
    found = [p for p in (path.with_suffix(suffix) for suffix in SUFFIXES) if p.is_file()]
    if len(found) > 1:
        names = " and ".join(p.name for p in found)
        raise InconsistentError(f"{path}: {names} stand beside it, only one of them may.")
    return found[0] if found else None


def read_sidecar(path: Path) -> Sidecar:
    """Read the text file beside an array; an empty :class:`Sidecar` where there is none.

    Parameters
    ----------
    path
        The array's file.

    Raises
    ------
    UnreadableError
        If the text is no strict YAML or JSON.
    InconsistentError
        If a key is unknown, a value has a wrong type or range, or two contradict each other; the
        message names file, line and key.
    """
    beside = sidecar_path(path)
    if beside is None:
        return Sidecar()
    value, marks = _parse(beside)
    if not isinstance(value, dict):
        raise InconsistentError(f"{beside} has to be a block of keys such as fov_mm.")
    try:
        return Sidecar.model_validate(value)
    except ValidationError as error:
        raise InconsistentError(_sentence(error.errors(include_url=False), beside, marks)) from None


def write_sidecar(path: Path, sidecar: Sidecar) -> None:
    """Write the text file, as YAML whose values are JSON (numbers keep all their digits)."""
    values = sidecar.model_dump(exclude_none=True)
    lines = [f"{key}: {json.dumps(value, allow_nan=False)}\n" for key, value in values.items()]
    path.write_text("".join(lines), encoding="utf-8")


def placement(grid: Grid) -> dict[str, Any]:
    """Keys of a :class:`Sidecar` that say where a grid is."""
    return {
        "spacing_mm": _plain(grid.spacing),
        "origin_mm": _plain(grid.origin),
        "directions": tuple(_plain(d) for d in grid.directions),
    }


def _plain(values: Triple) -> Triple:
    a, b, c = (float(v) for v in values)
    return a, b, c


def _parse(path: Path) -> tuple[Any, dict[yaml_loader.Path, yaml_loader.Mark]]:
    try:
        if path.stat().st_size > yaml_loader.MAX_BYTES:
            raise UnreadableError(
                f"{path} has {path.stat().st_size} bytes; a description has at most "
                f"{yaml_loader.MAX_BYTES}."
            )
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from error
    if path.suffix == ".json":
        return _json(content, path), {}
    try:
        document = yaml_loader.load_yaml(content, str(path))
    except ProtocolError as error:
        raise UnreadableError(str(error)) from None
    return document.value, document.marks


def _json(content: bytes, path: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("a key stands twice in one block")
        return dict(pairs)

    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, ValueError) else "nested too deep"
        raise UnreadableError(f"{path} is not valid JSON ({reason}).") from None


def _sentence(
    details: list[ErrorDetails], path: Path, marks: dict[yaml_loader.Path, yaml_loader.Mark]
) -> str:
    # a misspelt key is the cause of what is missing elsewhere
    detail = min(details, key=lambda d: d["type"] != "extra_forbidden")
    loc = tuple(detail["loc"])
    what = _what(detail)
    if detail["type"] == "value_error":
        key, _, what = str(detail["ctx"]["error"]).partition(": ")
        loc = (key,)
    mark = next((marks[loc[:n]] for n in range(len(loc), 0, -1) if loc[:n] in marks), None)
    text = f"{path}{f' {mark}' if mark else ''}: {'.'.join(map(str, loc))}: {what}"
    return text if text.endswith("?") else f"{text}."


def _what(detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        known = list(Sidecar.model_fields)
        close = difflib.get_close_matches(str(detail["loc"][-1]), known, 1, 0.5)
        hint = f"did you mean {close[0]}?" if close else f"valid here: {', '.join(known)}"
        return f"unknown key, {hint}"
    if detail["type"] == "missing":
        return "a number is missing"
    given = detail["input"]
    shown = f"a list of {len(given)}" if isinstance(given, list | tuple) else ascii(given)[:40]
    expected = _EXPECTED.get(detail["type"], detail["msg"].removeprefix("Input should be "))
    return f"expected {expected}, got {shown}"
