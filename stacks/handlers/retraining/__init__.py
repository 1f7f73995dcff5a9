"""Functions of pipelines that retrain: what starts an execution, and its Lambda steps."""
