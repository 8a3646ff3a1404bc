"""From a study and a protocol to a data term: the only place where the modalities differ."""

from medrecon.problem.ct import ct_problem
from medrecon.problem.mr import mr_problem, mr_problems
from medrecon.problem.problem import Problem
from medrecon.problem.retrospective import retrospective

__all__ = ["Problem", "ct_problem", "mr_problem", "mr_problems", "retrospective"]
