"""Rewards: one file per kind, each of which scores answers by one criterion."""
