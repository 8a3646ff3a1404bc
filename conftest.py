"""Doctests of modules whose compiler is not installed are not collected."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("triton") else ["*/kernels/triton_*.py"]
