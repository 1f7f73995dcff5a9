"""How fast preferences and rewards are learned from, beside TRL."""
