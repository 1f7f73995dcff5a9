"""Readers of files, folders, Hub data sets and the Python standard library, up to ingestion."""
