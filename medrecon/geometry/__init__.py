"""Acquisition geometries: frozen values that know where rays and k-space samples are."""

from medrecon.geometry.ct import (
    ConeBeam,
    CTGeometry,
    FanBeam,
    ParallelBeam,
    ParallelBeam3D,
    SliceGeometry,
    VolumeGeometry,
)
from medrecon.geometry.mr import Cartesian, MRGeometry, NonCartesian
from medrecon.geometry.vectors import ConeVectors, ParallelVectors

__all__ = [
    "CTGeometry",
    "Cartesian",
    "ConeBeam",
    "ConeVectors",
    "FanBeam",
    "MRGeometry",
    "NonCartesian",
    "ParallelBeam",
    "ParallelBeam3D",
    "ParallelVectors",
    "SliceGeometry",
    "VolumeGeometry",
]
