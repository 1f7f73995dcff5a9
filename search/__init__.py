"""Search for hyperparameters: trials of one job that differ in some of its keys."""
