"""Acquisition geometries: frozen values that know where rays and k-space samples are."""

from medrecon.geometry.ct import ConeBeam, CTGeometry, FanBeam, ParallelBeam
from medrecon.geometry.mr import Cartesian

__all__ = ["CTGeometry", "Cartesian", "ConeBeam", "FanBeam", "ParallelBeam"]
