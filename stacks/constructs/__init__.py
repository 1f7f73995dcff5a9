"""Constructs that the stacks are composed of, one idea per file."""
