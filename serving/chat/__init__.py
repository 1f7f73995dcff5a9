"""Chat in the terminal with one model, or with two side by side."""
