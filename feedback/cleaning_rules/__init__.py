"""Cleaning rules: one file per rule, applied in the order of `feedback.cleaning.RULES`."""
