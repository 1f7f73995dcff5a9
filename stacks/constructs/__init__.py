"""Constructs of the stacks: one file per construct."""
