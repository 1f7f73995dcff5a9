"""Endpoints of models, one file per protocol."""
