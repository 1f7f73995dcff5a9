"""What runs where the accelerators are: from a job file to a trained, verified model."""

__version__ = "0.2.0"
