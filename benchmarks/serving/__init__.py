"""Comparison of servers: time to the first token, time between tokens, tokens per second."""
