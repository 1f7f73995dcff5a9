"""Report of a watch: JSON, an HTML page, lines for the terminal, CloudWatch metrics."""
