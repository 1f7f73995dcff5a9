"""What people see of a run: the progress line, the metrics file, the report page."""
