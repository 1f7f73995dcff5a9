"""Saving and exporting of trained models, each verified before it gets its final name."""
