"""A Slurm cluster with a shared file system: how it is reached, and the script it is given."""
