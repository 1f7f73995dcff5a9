"""Detection of secrets: the step, the scanner, and patterns of the most common formats."""
