"""Networks of other projects' priors, rebuilt to load their weights."""
