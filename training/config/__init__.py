"""The job file: pydantic models, frozen and closed, and the only home of a default.

Nothing here imports torch or transformers: a laptop checks a job in well under a second.
"""

from training.config.job import Job, Pipeline
from training.config.load import load_job

__all__ = ["Job", "Pipeline", "load_job"]
