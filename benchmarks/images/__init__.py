"""Size of the container images, and the time to their first optimizer step."""
