"""Whether a prior fits a scan, and what is done where it does not.

Looks from cheap to dear: the prior's error on its own result against the error of its card
(:mod:`~medrecon.safety.self_consistency`), the data residual against the noise, and measurements
that were kept from both the prior and total variation (:mod:`~medrecon.safety.held_out`,
:mod:`~medrecon.safety.comparison`). The last one says how far to lean on total variation
(:mod:`~medrecon.safety.leaning`), and watches a prior that learns from the scan
(:mod:`~medrecon.safety.adapting`).
"""
