"""Linear forward operators: what the scanner does to a volume, and its exact adjoint."""

from medrecon.operators.base import Identity, LinearOperator

__all__ = ["Identity", "LinearOperator"]
