"""medrecon: medical volumes from what the scanner really measured.

Physical forward operators (CT, MR) meet slice-wise diffusion priors and total variation along the
third axis; every sampling step is made consistent with the data by conjugate gradients.
"""

__version__ = "0.1.0"
