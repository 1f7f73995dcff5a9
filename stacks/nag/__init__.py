"""Rules that every template is held to: four public packs and one of our own.

`packs.attach(app)` makes synthesis fail on a finding that `acknowledged.py` does not explain.
"""
