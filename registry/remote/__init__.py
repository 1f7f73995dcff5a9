"""Registries on servers, SageMaker's and MLflow's, that hold copies of local versions."""
