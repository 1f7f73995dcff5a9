"""What a model is worth: held-out loss, answers to samples, forgetting."""
