"""What is done to raw k-space before an operator can model it."""
