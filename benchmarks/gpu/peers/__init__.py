"""Other packages that train the same model on the same rows, each in its own interpreter."""
