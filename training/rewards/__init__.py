"""Rewards: each file says in one way how good an answer is."""
