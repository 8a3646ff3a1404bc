"""Reconstruction in closed form: filtered back-projection and Feldkamp's algorithm."""
