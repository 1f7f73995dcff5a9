"""Judges: models that are asked for an opinion or an answer, here or behind a network."""
