"""Mixing: which rows a run trains on, how often, in which order, and which share a packed row.

Weights, limits, the held-out split, replay of general text, packing and duplicate detection are
here; `mixture` combines them.
"""
