"""Composition of trained adapters: merges, weighted sums, gates, fusion, routing."""
