"""Training on accelerators: from a job file to a trained, verified model."""

__version__ = "0.2.0"
