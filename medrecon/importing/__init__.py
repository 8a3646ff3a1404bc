"""Priors of other projects: recognised, tried on a phantom, written as ours."""
