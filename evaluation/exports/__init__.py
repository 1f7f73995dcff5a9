"""Suites in the formats of other evaluation tools: one file per format."""
