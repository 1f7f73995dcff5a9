"""Rules that every template must pass: four public cdk-nag packs and the Temper pack.

`public_packs.attach(app)` makes synthesis fail on any finding that `suppressions.py` does not
explain.
"""
