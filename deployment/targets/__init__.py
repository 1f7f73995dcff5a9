"""Targets of deployments, one file for each."""
