"""Advice on how to adapt a model to data: prompts, retrieval, or training, and which kind.

`rules.yaml` is the table of rules. `base_probe` and `trials` run the model; nothing else here
imports torch.
"""
