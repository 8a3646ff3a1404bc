"""Fan-beam projection of a stack of slices: a name of :class:`SliceProjector`."""

from medrecon.operators.slice_projector import SliceProjector as FanProjector

__all__ = ["FanProjector"]
