"""Adapters: each file puts one kind on a model."""
