"""Scores of generated answers: one file per score."""
