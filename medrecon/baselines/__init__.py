"""Classical reconstructions of a data term: all of them generators of :class:`Progress`."""

from medrecon.baselines.grappa import grappa
from medrecon.baselines.least_squares import cgls
from medrecon.baselines.low_rank import low_rank
from medrecon.baselines.total_variation import total_variation
from medrecon.baselines.wavelet import l1_wavelet

__all__ = ["cgls", "grappa", "l1_wavelet", "low_rank", "total_variation"]
