"""Judges: language models, local or behind an endpoint, that rate answers or rewrite them."""
