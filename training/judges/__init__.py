"""Judges: models that are asked for an opinion, here or behind a network."""
