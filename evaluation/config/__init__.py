"""Suite file: typed, closed, and read without torch."""
