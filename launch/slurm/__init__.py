"""Access to a Slurm cluster with a shared file system, and the batch script of a run."""
