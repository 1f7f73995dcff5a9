"""The checks of a GPU: tiny ones on a CPU, and the same ones at full scale on a GPU."""
