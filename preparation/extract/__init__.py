"""Extraction of text from raw files: one module per format, chosen by `extraction`."""
