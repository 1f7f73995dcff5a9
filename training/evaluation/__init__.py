"""Evaluation of a model: held-out loss, answers to sample prompts, and forgetting."""
