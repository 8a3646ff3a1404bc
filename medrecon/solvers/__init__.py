"""Solvers of weighted least squares: conjugate gradients, ADMM, preconditioners, norms."""
