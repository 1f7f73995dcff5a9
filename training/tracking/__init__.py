"""Live tracking of a run: metrics files, console progress, MLflow, the manifest."""
