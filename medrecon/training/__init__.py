"""Training of slice priors: recipes, data, augmentation, steps, scores and the prior's card."""
