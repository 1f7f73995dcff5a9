"""Small trials: each approach for the same steps on the same rows, compared on others."""
