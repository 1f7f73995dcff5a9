"""Adapters (parameter-efficient fine-tuning): one file per kind, each with an `apply` function."""
