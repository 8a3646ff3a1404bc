"""Reconstruction in closed form: filtered back-projection, Feldkamp's algorithm and helices."""

from medrecon.analytic.dispatch import analytic, method_for

__all__ = ["analytic", "method_for"]
