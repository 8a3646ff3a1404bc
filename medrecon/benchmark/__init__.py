"""How good is it? Suites of simulated scans, on which every method is measured alike.

A *case* is one scan of one image; a *row* is one method on one case with one seed. Rows are
written as soon as they are known, so a killed run goes on where it was.
"""

from medrecon.benchmark.case import Case
from medrecon.benchmark.rows import Row, Rows
from medrecon.benchmark.run import benchmark
from medrecon.benchmark.settings import Settings
from medrecon.benchmark.suites import SUITES, cases_of

__all__ = ["SUITES", "Case", "Row", "Rows", "Settings", "benchmark", "cases_of"]
