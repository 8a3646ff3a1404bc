"""Diffusion sampling: the reverse loop, its data step, and the laws of its noise."""
