"""Speed and memory of preference and RL methods, compared with plain TRL."""
