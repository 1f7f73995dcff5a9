"""Ways in which adapters meet: each file says how much each of them counts."""
