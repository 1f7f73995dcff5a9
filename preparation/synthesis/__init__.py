"""Synthesis of training data: prompts and answers that a teacher model writes."""
