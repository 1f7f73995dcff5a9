"""Schema of the job file: frozen pydantic models, which define every default.

Nothing here imports torch or transformers, so that a job is checked in well under a second.
"""

from training.config.job import Job, Pipeline
from training.config.load import load_job

__all__ = ["Job", "Pipeline", "load_job"]
