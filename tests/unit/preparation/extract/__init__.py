"""Tests of the extraction of text from raw files."""
