"""Preparation of data: from raw files to clean training data, on one machine or on many."""
