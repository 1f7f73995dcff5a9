"""Pipelines that retrain: prepare, train, evaluate, decide, register and deploy, from one file."""
