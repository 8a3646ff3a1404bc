"""Denoisers: trained networks with their cards, and exact priors for tests."""
