"""Files in and out; values inside. No reader knows a solver, a prior or an operator."""
