"""Replay of golden prompts on a schedule."""
