"""Places where the tasks of a pass run."""
