"""Parts of the GPU benchmark, each a list of cases that run alone."""
